"""A model for VLMEvalKit, and its `run.py` with that model under the name `pgjax`.

python -m pgjax.harnesses.vlmeval --checkpoint ft-docvqa-448 VLMEvalKit/run.py --data DocVQA_VAL

VLMEvalKit has no place where other packages register models: here the process that runs it does.
"""

import argparse
import functools
import runpy
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgjax.data.given_images import read_given
from pgjax.errors import DataError
from pgjax.harnesses.harness_tasks import example_of
from pgjax.harnesses.tuned_model import TunedModel

NAME = "pgjax"
_BATCHES = 8  # that are answered at one call, so that images are read ahead
_ROWS = 32


class Question:
    """A line of a benchmark, and its answer once there is one."""

    def __init__(self, line: Mapping[str, Any], benchmark: str) -> None:
        """Keeps the line; its image is decoded when it is asked for."""
        self.line, self.benchmark = line, benchmark
        self.answer: str | None = None


class Pgjax:
    """Any checkpoint of pgjax, in one process on all of its devices.

    VLMEvalKit makes all prompts first, and then asks for one answer at a time, in several threads.
    The first that asks has the questions that follow answered as well, in batches.
    """

    is_api = True  # of a model that makes its prompts beforehand and may be called from threads
    INTERLEAVE = False

    def __init__(self, checkpoint: str, batch_size: int = _ROWS, **options: Any) -> None:
        """Loads the checkpoint.

        Args:
          checkpoint: as for `pgjax.load`.
          batch_size: examples decoded together.
          **options: of `TunedModel`.

        Raises:
          UserError: as `pgjax.load`.
        """
        self._model = TunedModel(checkpoint, batch_size=batch_size, **options)
        self._ahead = _BATCHES * batch_size
        self._waiting: list[Question] = []
        self._lock = threading.Lock()
        self._paths: Callable[[Mapping[str, Any]], Sequence[str]] | None = None

    def set_dump_image(self, dump_image: Callable[[Mapping[str, Any]], Sequence[str]]) -> None:
        """Takes the data set's function that finds the files of a line's images."""
        self._paths = dump_image

    def use_custom_prompt(self, dataset: str | None) -> bool:
        """Always: the prompts are those of the checkpoint's tuning."""
        return True

    def build_prompt(self, line: Mapping[str, Any], dataset: str) -> Question:
        """Lines up a question."""
        question = Question(line, dataset)
        self._waiting.append(question)
        return question

    def generate(self, message: Question, dataset: str | None = None) -> str:
        """The answer to a question.

        Raises:
          UserError: see `TunedModel.answers`.
        """
        with self._lock:
            if message.answer is None:
                self._answer_from(message)
        assert message.answer is not None
        return message.answer

    def _answer_from(self, first: Question) -> None:
        start = self._waiting.index(first)
        turn = self._waiting[start : start + self._ahead]
        turn = [question for question in turn if question.benchmark == first.benchmark]
        answers = self._model.answers(first.benchmark, _Lines(turn, self._paths))
        for question, answer in zip(turn, answers, strict=True):
            question.answer = answer
        self._waiting = [question for question in self._waiting if question.answer is None]


class _Lines:
    """Questions as a data source."""

    def __init__(self, questions: Sequence[Question], paths: Callable | None) -> None:
        self._questions, self._paths = questions, paths

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        line = self._questions[index].line
        image = line.get("image")
        if isinstance(image, str):  # base64; the files that VLMEvalKit makes are encoded anew
            image = f"data:;base64,{image}"
        elif self._paths is not None and image is None:
            paths = self._paths(line)
            image = paths[0] if len(paths) == 1 else paths
        if not isinstance(image, str):
            raise DataError(f"the line has {len(image or ())} images, expected one.")
        return {"image": read_given(image), **example_of(line)}

    def where(self, index: int) -> str:
        question = self._questions[index]
        return f"{question.benchmark}:{question.line.get('index', index)}"


def register(checkpoint: str, **options: Any) -> None:
    """Makes a checkpoint known to VLMEvalKit as the model `pgjax`, in this process.

    Args:
      checkpoint: as for `pgjax.load`; it is loaded when VLMEvalKit builds the model.
      **options: of `Pgjax`.
    """
    from vlmeval.config import supported_VLM  # pyright: ignore[reportMissingImports]

    supported_VLM[NAME] = functools.partial(Pgjax, checkpoint, **options)


def main() -> None:
    """Registers a checkpoint and runs VLMEvalKit's `run.py`, to which all other flags go."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, help="as for pgjax.load")
    parser.add_argument("--prompt", default="", help="a prompt for all benchmarks")
    parser.add_argument("--batch_size", type=int, default=_ROWS, help="examples at a time")
    parser.add_argument("script", help="run.py of VLMEvalKit")
    given, rest = parser.parse_known_args()
    register(given.checkpoint, prompt=given.prompt, batch_size=given.batch_size)
    sys.argv = [given.script, *rest, "--model", NAME]
    runpy.run_path(given.script, run_name="__main__")


if __name__ == "__main__":
    main()
