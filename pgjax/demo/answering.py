"""The models behind the page, and their answers."""

import dataclasses
import time
from collections.abc import Collection, Iterator
from typing import Any

import jax

from pgjax.data.draw import object_colors
from pgjax.data.given_images import orientation
from pgjax.demo.questions import SEARCHES, Question
from pgjax.inference.answer import Answer
from pgjax.inference.batch_size import free_bytes
from pgjax.inference.detections import Detections
from pgjax.inference.load import load
from pgjax.inference.model import Model
from pgjax.inference.preprocessing import PromptPreprocessor

_EVERY = 0.1  # seconds between two states of a text that is being written
_ROOM = 1.5  # a model is kept beside a second one where this many times its size are free


@dataclasses.dataclass(frozen=True)
class Result:
    """An answer, or what is known of it so far.

    Attributes:
      checkpoint: that was asked.
      question: that it was asked.
      text: the answer's text so far.
      state: what is being waited for; "" when the answer is complete.
      answer: the complete answer.
      found: the objects that it names, with the image as the model saw it.
      colors: of the objects.
      seconds: from the question to the answer, without loading the model.
      is_turned_away: whether the image has an EXIF orientation that the model did not follow.
    """

    checkpoint: str
    question: Question
    text: str = ""
    state: str = ""
    answer: Answer | None = None
    found: Detections | None = None
    colors: tuple[str, ...] = ()
    seconds: float = 0.0
    is_turned_away: bool = False

    def above(self, threshold: float) -> "Result":
        """The result with only the objects whose score is at least the threshold, 0 to 1."""
        if self.found is None:
            return self
        kept = [i for i, x in enumerate(self.found) if x.score >= threshold]
        found = Detections([self.found[i] for i in kept], self.found.size, self.found.image)
        colors = tuple(self.colors[i] for i in kept)
        return dataclasses.replace(self, found=found, colors=colors)


class Models:
    """The checkpoints that are in memory: those of the last question, where there is room."""

    def __init__(self, quantize: str | None) -> None:
        """Loads nothing yet.

        Args:
          quantize: int8, int4 or nf4, for the decoder's matrices; None to leave them.
        """
        self._quantize = quantize
        self._loaded: dict[str, Model] = {}

    def __contains__(self, checkpoint: str) -> bool:
        """Whether it is in memory."""
        return checkpoint in self._loaded

    def open(self, checkpoint: str, beside: Collection[str]) -> Model:
        """Loads a checkpoint, unless it is in memory.

        Args:
          checkpoint: its name or path.
          beside: what else is asked, and is kept in memory if there is room; others are dropped.

        Raises:
          UserError: it cannot be loaded.
        """
        if checkpoint not in self._loaded:
            self._loaded = {
                name: model
                for name, model in self._loaded.items()
                if name in beside and free_bytes() > _ROOM * _bytes(model)
            }
            self._loaded[checkpoint] = load(checkpoint, quantize=self._quantize)
        return self._loaded[checkpoint]

    def ask(
        self, checkpoint: str, question: Question, beside: Collection[str] = ()
    ) -> Iterator[Result]:
        """Answers a question; yields what is known so far, and at last the complete result.

        Args:
          checkpoint: its name or path.
          question: what is asked.
          beside: as for `open`.

        Raises:
          UserError: the checkpoint cannot be loaded, or the question not be answered.
        """
        if checkpoint not in self:
            yield Result(checkpoint, question, state="loading the checkpoint …")
        model = self.open(checkpoint, beside)
        yield Result(checkpoint, question, state="answering …")
        preprocessor = PromptPreprocessor(model.context, orient=question.orient)
        picture = preprocessor.picture(question.image)
        if picture.ndim == 4:  # of frames, the first
            picture = picture[0]
        started = time.perf_counter()
        text = ""
        pieces = _pieces(model, question)
        try:
            told = started
            while True:
                text += next(pieces)
                if time.perf_counter() - told > _EVERY:
                    told = time.perf_counter()
                    yield Result(checkpoint, question, text, state="answering …")
        except StopIteration as end:
            answer: Answer = end.value
        found = model.read_detections(
            answer, picture.shape[:2], masks="<seg" in answer.text, image=picture
        )
        yield Result(
            checkpoint,
            question,
            answer.text,
            answer=answer,
            found=found,
            colors=tuple(object_colors(picture, [x.box for x in found])),
            seconds=time.perf_counter() - started,
            is_turned_away=orientation(question.image) != 1 and not preprocessor.turns,
        )


def _pieces(model: Model, question: Question) -> Any:
    """A generator of the answer's text, in pieces where it can be streamed; returns the answer."""
    options: dict[str, Any] = {
        "sampler": question.sampler,
        "max_new_tokens": question.length,
        "seed": question.seed,
        "orient": question.orient,
    }
    if question.sampler in SEARCHES:
        answer = model.generate(question.image, question.prompt, return_answers=True, **options)
        yield answer.text
        return answer
    return (yield from model.stream(question.image, question.prompt, **options))


def _bytes(model: Model) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(model.params))
