"""lmms-eval and VLMEvalKit, where they are installed, run their tasks with the tiny checkpoint."""

import importlib.metadata
import importlib.util
import json
import pathlib
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


def compare(command, out, benchmarks, *flags):
    command(
        ROOT / "tools" / "compare_harnesses.py", "--out", out, "--count=6",
        f"--benchmarks={','.join(benchmarks)}", *flags, timeout=1200,
    )  # fmt: skip
    found = json.loads((out / "verdicts.json").read_text())
    return found.pop("pgjax"), found


@needs("lmms_eval")
def test_lmms_eval(command, tmp_path):
    names = {e.name for e in importlib.metadata.entry_points(group="lmms_eval.models")}
    if "pgjax" not in names:
        pytest.skip("pgjax is not installed with its entry point")
    ours, found = compare(command, tmp_path / "out", ["docvqa", "ai2d"])
    verdicts = found["lmms-eval"]
    assert verdicts == ours and len(verdicts["docvqa"]) == 6
    assert {score for _, score in verdicts["docvqa"].values()} > {0}


@needs("vlmeval")
def test_vlmeval(command, tmp_path):
    spec = importlib.util.find_spec("vlmeval")
    run_py = pathlib.Path(spec.origin).parents[1] / "run.py"
    if not run_py.exists():
        pytest.skip("VLMEvalKit is not a checkout, so there is no run.py")
    ours, found = compare(
        command, tmp_path / "out", ["docvqa", "ai2d"], "--no-lmms", f"--run_py={run_py}"
    )
    for name, verdicts in found["VLMEvalKit"].items():
        for question, (answer, score) in ours[name].items():
            theirs, their_score = verdicts[question]
            if answer:  # an empty one is read back from its table as "nan"
                assert (theirs, their_score) == (answer, pytest.approx(score))


@needs("lmms_eval")
def test_requests_that_cannot_be_run():
    code = (
        "from pgjax.errors import UserError\n"
        "from pgjax.harnesses.lmms_eval import Pgjax\n"
        "for name in ('loglikelihood', 'generate_until_multi_round'):\n"
        "    try:\n"
        "        getattr(Pgjax.__new__(Pgjax), name)([])\n"
        "    except UserError as e:\n"
        "        print(e)\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.count("cannot be run.") == 2
