"""The released checkpoints: their names, where they can be downloaded, and how to prompt them."""

import dataclasses
import difflib

from pgjax.benchmarks.published import PUBLISHED

PRECISIONS = {"": "main", "f16": "float16", "bf16": "bfloat16"}  # the branch on the hub by suffix
RESOLUTIONS = (224, 448, 896)

# The prompts of the fine-tuned checkpoints, by task.
_ANSWER = "answer en {question}"
_CHOOSE = "answer en {question} choose from: {a} \\t {b} …"
_PROMPTS = {
    "cococap": "caption en",
    "coco35l": "caption en",
    "textcaps": "caption en",
    "scicap": "caption en",
    "screen2words": "caption en",
    "widgetcap": "caption en",
    "vqav2": _ANSWER,
    "okvqa": _ANSWER,
    "aokvqa-mc": _CHOOSE,
    "aokvqa-da": _ANSWER,
    "gqa": _ANSWER,
    "nlvr2": "answer en {sentence}",
    "ai2d": _CHOOSE,
    "science-qa": "Question: …\\nContext: …\\nOptions: (A) …\\nAnswer:",
    "rsvqa-lr": _ANSWER,
    "rsvqa-hr": _ANSWER,
    "chartqa": "{question}",
    "vizwizvqa": _ANSWER,
    "tallyqa": _ANSWER,
    "ocrvqa": _ANSWER,
    "textvqa": _ANSWER,
    "docvqa": "{question}",
    "infovqa": _ANSWER,
    "stvqa": _ANSWER,
    "refcoco-seg": "{phrase}",
}
_METRICS = {"acc": "accuracy", "cider": "CIDEr", "anls": "ANLS", "miou": "mIoU"}


@dataclasses.dataclass(frozen=True)
class Release:
    """A released checkpoint in one precision.

    Attributes:
      name: its name, such as `pt-224`, `ft-vqav2-448.bf16` or `paligemma2-3b-pt-224`.
      file: the file or folder in `$PGJAX_CHECKPOINTS`; the repository of `.npz` files uses the same
        name.
      repo: the repository with safetensors on the Hugging Face hub.
      branch: the branch of that repository.
      res: the resolution of images, in pixels.
      use: what it is for.
      prompt: the prompt of a fine-tuned checkpoint.
      score: the published score of a fine-tuned checkpoint.
    """

    name: str
    file: str
    repo: str
    branch: str
    res: int
    use: str
    prompt: str = ""
    score: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The names that the file or folder may have; some releases write bfloat16 as `b16`."""
        return (self.file, self.file.replace(".bf16.", ".b16."), self.repo.split("/")[1])

    @property
    def npz_repo(self) -> str | None:
        """The repository that holds `file`, or None if there is none."""
        return None if self.file == self.name else f"{self.repo}-jax"


# The name of a kind of checkpoint, its use, prompt, resolutions, and scores by resolution.
_Kind = tuple[str, str, str, tuple[int, ...], dict[int, float]]


def _table() -> dict[str, Release]:
    rows: dict[str, Release] = {}
    kinds: list[_Kind] = [
        ("pt", "pretrained, for fine-tuning", "", RESOLUTIONS, {}),
        ("mix", "tuned on many tasks, for prompting", "", RESOLUTIONS[:2], {}),
        *(_fine_tuned(task, prompt) for task, prompt in _PROMPTS.items()),
    ]
    for kind, use, prompt, sizes, scores in kinds:
        for res in sizes:
            for suffix, branch in PRECISIONS.items():
                base = f"{kind}-{res}"
                name = f"{base}.{suffix}" if suffix else base
                file = f"paligemma-3b-{base}{f'.{suffix}' if suffix else ''}.npz"
                score = str(scores[res]) if res in scores else ""
                repo = f"google/paligemma-3b-{base}"
                rows[name] = Release(name, file, repo, branch, res, use, prompt, score)
    for size in ("3b", "10b", "28b"):
        for kind, use in (("pt", "pretrained"), ("mix", "tuned on many tasks")):
            for res in RESOLUTIONS if kind == "pt" else RESOLUTIONS[:2]:
                name = f"paligemma2-{size}-{kind}-{res}"
                use_here = f"PaliGemma 2, {size.upper()}, {use}"
                rows[name] = Release(name, name, f"google/{name}", "main", res, use_here)
    return rows


def _fine_tuned(task: str, prompt: str) -> _Kind:
    """Describes the checkpoints of a task, with the first of its published scores."""
    row = PUBLISHED[task.replace("-", "_")]
    key, scores = next(iter(row["scores"].items()))
    metric, *part = key.split("/")
    of = ", ".join([_METRICS[metric], *part, row["split"]])
    return f"ft-{task}", f"fine-tuned on {task}; {of}", prompt, tuple(scores), scores


RELEASES = _table()


def get(name: str) -> Release | None:
    """Returns the release of a name, which may begin with `paligemma-3b-`, or None."""
    return RELEASES.get(name.removeprefix("paligemma-3b-"))


def of_repo(repo: str, branch: str | None) -> Release | None:
    """Returns the release in a repository and branch of the Hugging Face hub, or None."""
    branch = branch or "main"
    return next((r for r in RELEASES.values() if (r.repo, r.branch) == (repo, branch)), None)


def hint(name: str) -> str:
    """Says what to do about a name that does not exist."""
    near = difflib.get_close_matches(name, RELEASES, 1)
    question = f"Did you mean {near[0]!r}? " if near else ""
    return f"{question}`pgjax list checkpoints` shows the names."


def describe() -> str:
    """Returns a table with a line for every released checkpoint."""
    lines = [
        f"{'name':<24} {'pixels':>6}  {'score':>6}  what it is for",
        *(
            f"{r.name:<24} {r.res:>6}  {r.score:>6}  {r.use}"
            + (f"; prompt: {r.prompt}" if r.prompt else "")
            for r in RELEASES.values()
            if "." not in r.name
        ),
        "Those of PaliGemma also exist in half precision: add .f16 or .bf16 to the name.",
    ]
    return "\n".join(lines)
