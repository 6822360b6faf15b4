"""What earlier commands have left: evaluations and checkpoints; and questions to the demo."""

import contextlib
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pgjax.demo.questions import MOST_SEED, MOST_TOKENS, SAMPLERS, read_question
from pgjax.evaluation.overview import compared, overview
from pgjax.evaluation.store import Store
from pgjax.evaluation.stored_evaluation import read_evaluations
from pgjax.loading.parameters import open_run
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import (
    ODD_TEXT,
    ODD_VALUES,
    folders_of,
    read_folder,
    values_of,
    write_folder,
)
from tools.faults.fuzzing.targets.images import encoded

_CONFIG = pathlib.Path(__file__).parents[2] / "config.py"
_STEPS = 4


@functools.cache
def _folder() -> pathlib.Path:
    """A folder that lives as long as this process."""
    return pathlib.Path(tempfile.mkdtemp(prefix="fuzz_kept"))


@functools.cache
def train_and_evaluate() -> None:
    """Leaves a run and an evaluation, in processes of their own."""
    config, run = f"{_CONFIG}:case=plain", _folder() / "run"
    flags = (
        f"--config.total_steps={_STEPS}", "--config.keep_last=2", "--config.checkpoint_every=2",
        "--config.log_every=1", "--config.trackers=()", "--config.evals.val.every=0",
    )  # fmt: skip
    commands = (
        ("train", f"--config={config}", f"--workdir={run}", *flags),
        ("evaluate", f"--run={run}", f"--out={_folder()}"),
    )
    for command in commands:
        subprocess.run([sys.executable, "-m", "pgjax", *command], check=True, capture_output=True)


def _evaluation() -> dict[str, bytes]:
    return read_folder(_folder() / "evaluation")


@functools.cache
def _run() -> dict[str, bytes]:
    return read_folder(_folder() / "run")


def check_evaluation(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Pages are made of it or not, and an evaluation that goes on there knows what is done."""
    write_folder(folder / "report", files)
    write_folder(folder / "store", files)  # which an open store changes
    for name in ("val", "answers"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            identity = json.loads(files[f"{name}.json"])["identity"]
            lines = files[f"{name}.jsonl"].splitlines(keepends=True)
            whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
            done = Store(folder / "store", name, identity).done
            if done != {int(x["index"]) for x in whole}:
                raise Wrong(f"{name}: {sorted(done)} are done")
    overview([folder / "report"], ["question_type"], 2)
    compared(folder / "report", _folder() / "evaluation", 2)
    found = read_evaluations(folder / "report")
    if {name: x.scores for name, x in found.items()} != json.loads(files["scores.json"]):
        raise Wrong("the scores are not those of scores.json")


@functools.cache
def _params() -> dict[int, dict[str, np.ndarray]]:
    def at(step: int) -> dict[str, np.ndarray]:
        _, params = open_run(_folder() / "run", step=step)
        return {name: np.asarray(x) for name, x in params.items()}

    return {step: at(step) for step in (_STEPS // 2, _STEPS)}


def check_checkpoint(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Parameters are, bit by bit, those that a step was saved with."""
    write_folder(folder, files)
    _, params = open_run(folder)
    found = {name: np.asarray(x).tobytes() for name, x in params.items()}
    for saved in _params().values():
        if found == {name: x.tobytes() for name, x in saved.items()}:
            return
    raise Wrong("the parameters are those of no step")


def _mostly(valid: Any, *odd: Any) -> Any:
    """Five of six values are valid ones."""
    return st.integers(0, 5).flatmap(lambda n: valid if n else st.one_of(*odd, ODD_VALUES))


_QUESTIONS = st.fixed_dictionaries(
    {
        "image": _mostly(st.just({"path": "image.png"}), st.fixed_dictionaries({"path": ODD_TEXT})),
        "prompt": _mostly(st.just("caption en"), ODD_TEXT),
        "sampler": _mostly(st.sampled_from(SAMPLERS), ODD_TEXT),
        "length": _mostly(st.integers(0, MOST_TOKENS)),
        "seed": _mostly(st.integers(0, MOST_SEED)),
        "orient": _mostly(st.booleans()),
    }
)


def check_question(given: dict[str, Any], folder: pathlib.Path) -> None:
    """What is taken is what was sent."""
    (folder / "image.png").write_bytes(encoded()[0])
    image = given["image"]
    if isinstance(image, dict) and image.get("path") == "image.png":
        given = {**given, "image": {"path": str(folder / "image.png")}}
    found = read_question(**given, uploads=folder)
    if (found.prompt or "", found.seed) != (given["prompt"].strip(), given["seed"]):
        raise Wrong(f"{found.prompt!r}, seed {found.seed}")


TARGETS = [
    Target(
        "stored evaluations",
        folders_of(lambda: [_evaluation()]),
        check_evaluation,
        5,
        before=train_and_evaluate,
    ),
    Target(
        "training checkpoints",
        folders_of(lambda: [_run()], "checkpoints/*"),
        check_checkpoint,
        4,
        prepare=_params,
        before=train_and_evaluate,
        seconds=15.0,
    ),
    Target("questions to the demo", values_of(lambda: _QUESTIONS), check_question, 3),
]
