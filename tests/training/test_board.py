"""TensorBoard's files: what a reader finds there, and what a full disk costs."""

import os
import pathlib
import struct
import subprocess
import sys
import time

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from pgjax.training.board import Board


def events(folder):
    """All events of a folder's files, with their checksums checked."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            assert struct.unpack_from("<I", data, 8) == (masked_crc32c(data[:8]),)
            body = data[12 : 12 + length]
            assert struct.unpack_from("<I", data, 12 + length) == (masked_crc32c(body),)
            yield Event.FromString(body)
            data = data[16 + length :]


def points(folder):
    return [(e.step, v.tag, v.simple_value) for e in events(folder) for v in e.summary.value]


def test_points_are_there_before_it_is_closed(tmp_path):
    board = Board(tmp_path / "tb", 4)
    board.write(4, {"loss": 2.5, "val/loss": 1.5})
    board.write(5, {})
    board.write(6, {"loss": 0.5})
    assert points(tmp_path / "tb") == [(4, "loss", 2.5), (4, "val/loss", 1.5), (6, "loss", 0.5)]
    first, second = list(events(tmp_path / "tb"))[:2]
    assert first.file_version == "brain.Event:2" and abs(first.wall_time - time.time()) < 60
    assert second.step == 4 and second.session_log.status == SessionLog.START  # hides old points
    board.close()
    board.write(7, {"loss": 1.0})  # nothing happens
    assert len(points(tmp_path / "tb")) == 3


def test_two_files_of_one_moment(tmp_path):
    boards = [Board(tmp_path, 1) for _ in range(3)]
    for board in boards:
        board.write(1, {"a": 1.0})
        board.close()
    assert len(points(tmp_path)) == 3


FULL = """
import pathlib, resource, signal, sys, time
from pgjax.training.board import Board
board = Board(pathlib.Path(sys.argv[1]), 1)
board.write(1, {"loss": 1.0})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
start = time.monotonic()
for step in range(2, 1000):
    board.write(step, {"loss": 1.0})
board.close()
assert time.monotonic() - start < 10
print("went on")
"""


def test_a_full_disk_costs_points_and_no_time(tmp_path):
    """tensorboardX's writer would wait without end."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "went on\n", done.stderr
    assert done.stderr.count("the run goes on without TensorBoard") == 1
    assert done.stderr.count("\n") == 1
    path = next(tmp_path.glob("events*"))
    assert 1900 < path.stat().st_size <= 2000


def test_a_folder_that_cannot_be_made(tmp_path, capfd):
    (tmp_path / "tb").write_text("a file")
    board = Board(tmp_path / "tb", 1)
    board.write(1, {"loss": 1.0})
    board.close()
    assert "goes on without TensorBoard" in capfd.readouterr().err
    assert os.path.isfile(pathlib.Path(tmp_path, "tb"))
