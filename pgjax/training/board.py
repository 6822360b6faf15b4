"""TensorBoard's event files, written without a thread: a full disk costs points, never the run.

tensorboardX's own writer hands events to a thread through a bounded queue; the thread dies of its
first error, the queue fills, and the next point waits without end.
"""

import io
import os
import pathlib
import socket
import struct
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore
from tensorboardX.record_writer import masked_crc32c

from pgjax.console import table_in_markdown
from pgjax.errors import note
from pgjax.training.board_values import picture_value, text_value

if TYPE_CHECKING:
    from pgjax.training.trackers import Answers


class Board:
    """Values for TensorBoard; after the first failure it says so and writes no more."""

    def __init__(self, folder: pathlib.Path, first_step: int):
        """Begins an event file.

        Args:
          folder: of the event files.
          first_step: points of earlier files from this step on are hidden.
        """
        self._file: io.FileIO | None = None
        self._folder = folder
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("xb", buffering=0)
        except OSError as e:
            self._stop(e)
        self._put(Event(file_version="brain.Event:2"))
        self._put(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points; a kill of this process after it does not lose them."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        if points:
            self._put(Event(step=step, summary=Summary(value=points)))

    def show(self, step: int, answers: "Answers") -> None:
        """Adds a picture, and a table as text."""
        table = table_in_markdown(answers.header, answers.rows)
        values = [picture_value(f"{answers.name}/answers", answers.picture)]
        values.append(text_value(f"{answers.name}/predictions", table))
        self._put(Event(step=step, summary=Summary(value=values)))

    def text(self, step: int, tag: str, text: str) -> None:
        """Adds a text in Markdown."""
        self._put(Event(step=step, summary=Summary(value=[text_value(tag, text)])))

    def close(self, finished: bool = True) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, event: Event) -> None:
        if self._file is None:
            return
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + _checksum(length) + data + _checksum(data)
        try:
            if (written := self._file.write(record)) != len(record):
                raise OSError(f"{written} of {len(record)} bytes fitted")
        except OSError as e:
            self._stop(e)

    def _stop(self, e: OSError) -> None:
        self.close()
        note(
            f"{self._folder} cannot be written ({e.strerror or e}); the run goes on without "
            "TensorBoard, and metrics.jsonl has every value."
        )


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
