"""What shows a run while it trains: TensorBoard, and services that follow the run from outside."""

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from PIL import Image

from pgjax.errors import UserError
from pgjax.loading.run_directory import CONFIG_FILE
from pgjax.training.board import Board
from pgjax.training.follower import Follower


class Answers(NamedTuple):
    """Some answers of an evaluation.

    Attributes:
      name: of the evaluation.
      picture: a few images with their answers.
      header: names of the columns of a table with some more.
      rows: their texts.
    """

    name: str
    picture: Image.Image
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Tracker(Protocol):
    """Shows a run; a failure is said in a note, and neither stops the run nor makes it wait."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of a step, after they were written to `metrics.jsonl`."""
        ...

    def show(self, step: int, answers: Answers) -> None:
        """Takes answers, before the scores of the evaluation are written to `metrics.jsonl`."""
        ...

    def close(self, finished: bool) -> None:
        """Ends, within a minute; `finished` says whether the run is at its last step."""
        ...


def check_installed(names: Sequence[str]) -> None:
    """Checks that the packages of trackers are there.

    Raises:
      UserError: one is not.
    """
    for name in names:
        if name != "tensorboard" and importlib.util.find_spec(name) is None:
            raise UserError(
                f"config.trackers names {name!r}, which is not installed: pip install {name}."
            )


def open_trackers(names: Sequence[str], workdir: pathlib.Path, last_step: int) -> list[Tracker]:
    """Opens the trackers of `config.trackers` for a run that continues from `last_step`."""
    opened: list[Tracker] = []
    for name in dict.fromkeys(names):
        if name == "tensorboard":
            board = Board(workdir / "tb", last_step + 1)
            if (config := workdir / CONFIG_FILE).exists():
                board.text(max(last_step, 0), "config", f"```json\n{config.read_text()}\n```")
            opened.append(board)
        else:
            opened.append(Follower(name, workdir))
    return opened
