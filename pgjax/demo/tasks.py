"""What can be asked of a checkpoint, and the prompts in which it has learned to be asked."""

import dataclasses
import pathlib
import re

from pgjax.benchmarks.readers.coco35l import LANGUAGES
from pgjax.checkpoints import released
from pgjax.data.scenes import WORDINGS

OWN = "own prompt"


@dataclasses.dataclass(frozen=True)
class Task:
    """A way to ask.

    Attributes:
      template: the prompt, with `{text}` for what the visitor writes and `{language}` for a code.
      hint: what the text is; "" for a prompt without one.
    """

    template: str
    hint: str = ""

    @property
    def has_language(self) -> bool:
        """Whether the prompt names a language."""
        return "{language}" in self.template

    def prompt(self, text: str, language: str) -> str:
        """Writes the prompt."""
        return self.template.replace("{language}", language).replace("{text}", text.strip())

    def read(self, prompt: str) -> tuple[str, str] | None:
        """The text and the language ("" for none) of a prompt of this task; None for another."""
        pattern = re.escape(self.template)
        pattern = pattern.replace(r"\{language\}", f"(?P<language>{'|'.join(LANGUAGES)})")
        match = re.fullmatch(pattern.replace(r"\{text\}", "(?P<text>.*)"), prompt, re.DOTALL)
        found = match and match.groupdict()
        return None if found is None else (found.get("text", ""), found.get("language", ""))


Tasks = dict[str, Task]

_THINGS = "what to look for, with “ ; ” between several things"
_OWN = Task("{text}", "the prompt; empty for the one that the checkpoint was trained with")
# Of the pretrained and mix checkpoints, and of what is fine-tuned from them with such prompts.
PALIGEMMA: Tasks = {
    "caption": Task("caption {language}"),
    "question": Task("answer {language} {text}", "the question"),
    "detect": Task("detect {text}", _THINGS),
    "segment": Task("segment {text}", _THINGS),
    "read": Task("ocr"),
}
# Of the tiny checkpoint, which knows drawn shapes and these words only.
_WORDS = WORDINGS["pt"]
TINY: Tasks = {
    "caption": Task(_WORDS["caption"]),
    "question": Task(
        "{text}", "“count square”, “color of circle” or “shape of red”: the forms that it knows"
    ),
    "detect": Task("detect {text}", "a shape, or a color and a shape, such as “red circle”"),
    "segment": Task("segment {text}", "a color and a shape, such as “red circle”"),
}


def tasks_of(checkpoint: str) -> Tasks:
    """The tasks of a checkpoint by name; a prompt of one's own is always the last.

    Args:
      checkpoint: a name or a path; nothing is opened.
    """
    if checkpoint == "tiny":
        return {**TINY, OWN: _OWN}
    release = released.get(pathlib.PurePath(checkpoint).name.removesuffix(".npz"))
    tasks = _fine_tuned(release.prompt) if release and release.prompt else PALIGEMMA
    return {**tasks, OWN: _OWN}


def read_prompt(checkpoint: str, prompt: str) -> tuple[str, str, str]:
    """Recognises a prompt.

    Returns:
      The task's name, the text and the language, with which the task writes this prompt; the
      language is "" where the task has none.
    """
    tasks = tasks_of(checkpoint)
    # Templates that begin with fixed words are told apart more surely.
    for name in sorted(tasks, key=lambda name: tasks[name].template.startswith("{")):
        if (found := tasks[name].read(prompt)) is not None:
            return name, *found
    raise AssertionError("a prompt of one's own may be anything")


def translate(prompt: str, source: str, target: str) -> str:
    """Writes the same question for another checkpoint, in its own language.

    A prompt stays as it is where the other checkpoint has no such task.
    """
    name, text, language = read_prompt(source, prompt)
    task = tasks_of(target).get(name)
    if task is None or name == OWN or bool(task.hint) != bool(text):
        return prompt
    return task.prompt(text, language or "en")


def _fine_tuned(prompt: str) -> Tasks:
    """The one task of a checkpoint that is fine-tuned on one: its prompt, with `{…}` to fill in."""
    fixed, open_part = re.fullmatch(r"([^{…]*)(.*)", prompt, re.DOTALL).groups()  # type: ignore
    if not open_part:
        return {"caption": Task(fixed.replace("en", "{language}"))}
    hint = re.sub(r"[{}]", "", open_part)
    if "phrase" in open_part:
        return {"segment": Task(fixed + "{text}", hint)}
    return {"question": Task(fixed.replace(" en ", " {language} ") + "{text}", hint)}
