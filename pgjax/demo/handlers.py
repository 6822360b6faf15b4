"""What the controls of the page do, with whatever a browser or a program has sent."""

import contextlib
import functools
import pathlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from pgjax.benchmarks.readers.coco35l import LANGUAGES
from pgjax.checkpoints import released
from pgjax.demo.answering import Models, Result
from pgjax.demo.examples import examples_of
from pgjax.demo.questions import Question, choice, read_question
from pgjax.demo.rendering import answer_html, head_html
from pgjax.demo.tasks import OWN, read_prompt, tasks_of, translate
from pgjax.errors import UserError
from pgjax.inference.mask_rle import encode_mask

NONE = "(none)"  # instead of a second checkpoint
NAMES = {"caption": "Caption", "question": "Question", "detect": "Detect", "segment": "Segment"}
NAMES |= {"read": "Read text", OWN: "Own prompt"}
_SHOWN_SIDE = 1024  # pixels of the longer side of a picture with boxes, at most
_SMALL_SIDE = 640  # smaller ones are enlarged by whole numbers, up to this


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns errors into what the page shows: one sentence, without Python's own words."""
    try:
        yield
    except gr.Error:
        raise
    except UserError as e:
        raise gr.Error(str(e), duration=None, print_exception=False) from None
    except Exception:
        traceback.print_exc()
        raise gr.Error(
            "This failed for an unexpected reason; the terminal of pgjax demo shows the traceback.",
            duration=None,
            print_exception=False,
        ) from None


class Page:
    """The checkpoints behind a page, and what its controls do; arguments are as they were sent."""

    def __init__(
        self, checkpoints: Sequence[str], quantize: str | None, folder: pathlib.Path
    ) -> None:
        """Loads nothing yet.

        Args:
          checkpoints: what can be asked.
          quantize: int8, int4 or nf4, for the decoder's matrices; None to leave them.
          folder: for pictures of examples; uploads lie in its folder `uploads`.
        """
        self.checkpoints = list(checkpoints)
        self._models = Models(quantize)
        self._folder = folder
        self.examples = functools.cache(lambda name: examples_of(name, folder / "examples"))

    def _checkpoint(self, name: Any) -> str:
        return choice("checkpoint", name, self.checkpoints)

    def choose_checkpoint(self, checkpoint: Any, task: Any, text: Any, language: Any) -> list[Any]:
        """Offers the tasks and examples of a checkpoint, and writes the prompt anew."""
        with _explained():
            tasks = tasks_of(self._checkpoint(checkpoint))
            task = task if task in tasks else next(iter(tasks))
            gallery = gr.update(value=self.examples(checkpoint))
            return [*self.choose_task(checkpoint, task, text, language), gallery]

    def choose_task(self, checkpoint: Any, task: Any, text: Any, language: Any) -> list[Any]:
        """Shows the controls of a task, and writes its prompt."""
        with _explained():
            tasks = tasks_of(self._checkpoint(checkpoint))
            chosen = tasks[choice("task", task, list(tasks))]
            return [
                gr.update(choices=[(NAMES[name], name) for name in tasks], value=task),
                gr.update(visible=bool(chosen.hint) and task != OWN, info=chosen.hint),
                gr.update(visible=chosen.has_language),
                self.write_prompt(checkpoint, task, text, language),
            ]

    def write_prompt(self, checkpoint: Any, task: Any, text: Any, language: Any) -> Any:
        """Writes the prompt of a task in the checkpoint's own language."""
        with _explained():
            tasks = tasks_of(self._checkpoint(checkpoint))
            if choice("task", task, list(tasks)) == OWN:
                return gr.update()
            language = choice("language", language, LANGUAGES)
            if not isinstance(text, str | None):  # a field that nothing was written in sends null
                raise UserError("text is not text.")
            return tasks[task].prompt(text or "", language)

    def choose_example(self, checkpoint: Any, chosen: gr.SelectData) -> list[Any]:
        """Fills in an example's picture and prompt."""
        with _explained():
            picture, prompt = self.examples(self._checkpoint(checkpoint))[chosen.index]
            task, text, language = read_prompt(checkpoint, prompt)
            controls = self.choose_task(checkpoint, task, text, language or "en")
            return [picture, text, language or "en", *controls[:-1], prompt]

    def show_answers(
        self, checkpoint: Any, second: Any, threshold: Any, *asked: Any
    ) -> Iterator[list[Any]]:
        """Asks one checkpoint or two, and shows what is known so far.

        Args:
          checkpoint: which of them.
          second: another one, or `(none)`.
          threshold: the least score of objects that are shown, in percent.
          *asked: image, prompt, sampler, length, seed and orient, see `read_question`.

        Yields:
          Values of the outputs: the results for `show`, then as `show` returns.
        """
        with _explained():
            names = [self._checkpoint(checkpoint)]
            if second != NONE:
                names.append(self._checkpoint(second))
            results: list[Result | None] = [None, None]
            for i, name in enumerate(names):
                image, prompt, *options = asked
                if i and isinstance(prompt, str):
                    prompt = translate(prompt, names[0], name)
                for result in self._models.ask(
                    name, self._question(image, prompt, *options), beside=names
                ):
                    results[i] = result
                    yield [results, *self.show(results, threshold)]

    def _question(self, *asked: Any) -> Question:
        return read_question(*asked, uploads=self._folder / "uploads")

    def show(self, results: Sequence[Result | None] | None, threshold: Any) -> list[Any]:
        """Shows results with the objects above a threshold.

        Returns:
          Updates of the slider of the threshold, and of a panel's column, heading, picture, answer
          and raw text, for each of two panels.
        """
        with _explained():
            if not isinstance(threshold, int | float) or not results:
                raise UserError("The answer is not kept any more; ask again.")
            updates = [gr.update(visible=any(r and r.found for r in results))]
            for result in results:
                updates += _panel(result and result.above(threshold / 100))
            return updates

    def answer(self, checkpoint: Any, *asked: Any) -> dict[str, Any]:
        """What programs call: an answer as JSON, with the objects that it names."""
        with _explained():
            question = self._question(*asked)
            *_, result = self._models.ask(self._checkpoint(checkpoint), question)
            assert result.answer is not None and result.found is not None
            records = result.found.to_records()
            for record, found in zip(records, result.found, strict=True):
                if found.mask is not None:
                    record["segmentation"] = encode_mask(found.mask)
            return {
                "text": result.text,
                "ended": result.answer.ended,
                "logprob": round(result.answer.logprob, 4),
                "objects": records,
            }


def _panel(result: Result | None) -> list[Any]:
    if result is None:
        return [gr.update(visible=False), *[gr.update()] * 4]
    picture = gr.update(value=None, visible=False)
    if result.found:
        longest = max(result.found.size)
        scale = _SHOWN_SIDE / longest if longest > _SHOWN_SIDE else max(1, _SMALL_SIDE // longest)
        drawn = result.found.draw(scale=scale, colors=result.colors)
        picture = gr.update(value=drawn, visible=True)
    return [
        gr.update(visible=True),
        head_html(result.checkpoint, about(result.checkpoint)),
        picture,
        answer_html(result),
        result.text,
    ]


def about(checkpoint: str) -> str:
    """What a checkpoint is for; "" where its name does not say."""
    if checkpoint == "tiny":
        return "knows drawn shapes only"
    release = released.get(pathlib.PurePath(checkpoint).name.removesuffix(".npz"))
    return release.use if release else ""
