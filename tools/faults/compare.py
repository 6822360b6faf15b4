"""Compares two run directories: everything but times must be equal, bit for bit."""

import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

RATES = {"steps_per_second", "examples_per_second", "input_wait"}
LEFT_OVERS = ("*.part", "*.parts", "*tmp*", "run.lock")


def differences(whole: pathlib.Path, other: pathlib.Path) -> list[str]:
    """What differs between an uninterrupted run and another; [] for nothing."""
    return [
        *_compare("arrays", _arrays(whole), _arrays(other)),
        *_compare("metrics", _rows(whole), _rows(other)),
        *_compare("predictions", _predictions(whole), _predictions(other)),
    ]


def left_overs(workdir: pathlib.Path) -> list[str]:
    """Files of a finished run that nobody needs."""
    found = {p for pattern in LEFT_OVERS for p in workdir.rglob(pattern)}
    found |= set((workdir / "checkpoints").glob("damaged_*"))
    return sorted(str(p.relative_to(workdir)) for p in found)


def _compare(what: str, want: dict, got: dict) -> Iterator[str]:
    if want.keys() != got.keys():
        yield f"{what}: {sorted(want.keys() ^ got.keys())[:3]} in one of them only"
    for key in want.keys() & got.keys():
        if want[key] != got[key]:
            yield f"{what}: {key} differs"


def _arrays(workdir: pathlib.Path) -> dict[str, tuple]:
    """Parameters and the rest of the state of the newest checkpoint: dtype, shape and bytes."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    steps = [int(p.name[5:]) for p in (workdir / "checkpoints").glob("step_*")]
    folder = workdir / "checkpoints" / f"step_{max(steps)}"
    found = {"data": (folder / "data" / "metadata").read_bytes(), "step": max(steps)}
    for item in ("params", "train"):
        tree = ocp.PyTreeCheckpointer().restore(
            folder / item, args=ocp.args.PyTreeRestore(restore_args=_as_numpy(folder / item))
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            x = np.asarray(leaf)
            found[item + jax.tree_util.keystr(path)] = (str(x.dtype), x.shape, x.tobytes())
    return found


def _as_numpy(folder: pathlib.Path) -> Any:
    tree = ocp.PyTreeCheckpointer().metadata(folder).item_metadata.tree
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)


def _rows(workdir: pathlib.Path) -> dict[int, dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return dict(enumerate({k: v for k, v in row.items() if k not in RATES} for row in rows))


def _predictions(workdir: pathlib.Path) -> dict[str, bytes]:
    folder = workdir / "predictions"
    return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}
