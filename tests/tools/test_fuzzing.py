"""A short form of the campaign of hostile inputs, and the judgement of the fuzzer itself."""

import pytest
from conftest import ROOT

FUZZ = ROOT / "tools" / "faults" / "fuzz.py"
QUICK = (
    "images", "JSONL", "splits", "pipelines", "boxes as text", "COCO", "Label Studio", "WebDataset",
    "segmentations", "npz", "safetensors", "run*", "metrics", "samplers",
)  # fmt: skip


def test_quick_targets(command):
    said = command(FUZZ, "--inputs=280", "--seed=1", "--only", *QUICK).stdout
    assert "| all | " in said and len(said.splitlines()) == len(QUICK) + 4


@pytest.mark.slow
def test_all_targets(command):
    command(FUZZ, "--inputs=600", "--seed=2", timeout=600)


JUDGED = """
import os, pathlib, sys, time
from tools.faults.fuzzing.children import Target, Wrong, run
from pgjax.errors import UserError

def check(given, folder):
    if given == "refused":
        raise UserError("It is refused.")
    if given == "WRONG":
        raise Wrong("it is wrong")
    if given == "TRACEBACK":
        {}["x"]
    if given == "CRASH":
        os.abort()
    if given == "HANG":
        while True:
            pass
    if given == "too much":
        bytearray(8 << 30)

kinds = ["ok", "TRACEBACK", "CRASH", "ok", "WRONG", "HANG", "refused", "too much", "ok"]
counts, bad = run(Target("x", lambda rng, count: kinds, check), 0, len(kinds))
assert [f.place for f in bad] == ["0.1", "0.2", "0.4", "0.5", "0.7"], bad
assert [f.verdict for f in bad] == ["TRACEBACK", "CRASH", "WRONG", "HANG", "TRACEBACK"], bad
assert counts["ok"] == 3 and counts["refused"] == 1
"""


def test_every_fault_is_noticed(command):
    command("-c", JUDGED)
