"""What devices send each other in a step and while answering, against theory.

Equal losses say nothing about how a program is partitioned. Without constraints that hold, XLA
follows the parameters and every device works on the whole batch.
"""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from partition_cases import ROWS, TEXT, Case

from pgjax import sharding

SCRIPT = pathlib.Path(__file__).parent / "partition_cases.py"
MESHES = ("replicate,8,1", "fsdp,8,1", "tensor,1,8", "fsdp+tensor,4,2")
MODES = ("full", "freeze_vit", "attention", "lora", "qlora")
FAST = ("fsdp,8,1,full", "fsdp+tensor,4,2,full", "fsdp,8,1,qlora", "tensor,8,1,beam(3)")
SLOW = (
    *(f"{mesh},{mode}" for mesh in MESHES for mode in MODES),
    "fsdp,8,1,full,5", "fsdp,8,1,full,1,2", "fsdp+tensor,4,2,lora,5",
    *(f"tensor,8,1,{s}" for s in ("greedy", "nucleus(0.9)", "top_k(4)", "best_of(3)")),
    "tensor,4,2,beam(3)", "tensor,4,2,greedy",
)  # fmt: skip
WIDTH = 256  # of the decoder in partition_cases.py


def compiled(command, cases):
    """A dict by case."""
    lines = command(SCRIPT, *cases, devices=8, timeout=900).stdout.splitlines()
    return {row["case"]: row for row in map(json.loads, lines)}


def check(row):
    case = Case.parse(row["case"])
    assert row["flops"] > 0
    for kind, wanted in row["theory"].items():
        got = row["sent"].get(kind, 0.0)
        assert got == pytest.approx(wanted, rel=0.1, abs=2e4), (row["case"], kind)
    for kind, got in row["sent"].items():
        if row["theory"] and kind not in row["theory"]:
            assert got < 2e4, (row["case"], kind)
    for kind, arrays, _, op_name in row["collectives"]:
        for dtype, dims in arrays:
            # Tokens and scores are small; an activation has features.
            rows = math.prod(dims) / (TEXT - 1) / WIDTH if dims and dtype != "s32" else 0
            whole = ROWS / case.parts * case.images
            if case.data > 1 and len(dims) > 2 and ROWS in dims:
                assert rows < whole / 2, f"{row['case']}: {kind} {dims} of {op_name}"


def check_answers(row):
    """Rows stay where they are: only tokens, log-probabilities and flags are put together."""
    case = Case.parse(row["case"])
    assert case.data > 1
    if case.model == 1:
        assert sum(row["sent"].values()) < 4e3, row["sent"]
    for kind, arrays, _, op_name in row["collectives"]:
        for _, dims in arrays:
            if ROWS in dims:
                assert math.prod(dims) <= ROWS * 4, f"{row['case']}: {kind} {dims} of {op_name}"


def check_all(command, cases):
    rows = compiled(command, cases)
    assert set(rows) == set(cases)
    for row in rows.values():
        check(row) if row["theory"] else check_answers(row)


def test_what_devices_send(command):
    check_all(command, FAST)


@pytest.mark.slow
def test_what_devices_send_by_every_strategy_and_mode(command):
    check_all(command, SLOW)


OUTSIDE = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from pgjax import sharding

mesh = sharding.make_mesh()
x = jax.device_put(jnp.ones((8, 4)), sharding.batch_sharding(mesh))
function = jax.jit(lambda x: sharding.constrain(2 * x, "batch", None))
try:
    function(x)
except RuntimeError as e:
    assert "traced outside pgjax.sharding.use_mesh" in str(e), e
else:
    raise AssertionError("a constraint was dropped in silence")
with sharding.use_mesh(mesh):
    text = function.lower(x).as_text()
    assert text.count("sharding_constraint") == 1, text
    try:
        jax.jit(lambda x: sharding.constrain(x[:3], "batch", None))(x)
    except ValueError as e:
        assert "a batch of 3 rows cannot be split over 8 devices" in str(e), e
    else:
        raise AssertionError
"""


def test_constraints_cannot_be_dropped(command):
    command("-c", OUTSIDE, devices=8)


def test_one_device_needs_no_mesh():
    x = jnp.ones((3, 4))
    assert sharding.constrain(x, "batch", None) is x
    mesh = sharding.make_mesh()
    where = NamedSharding(mesh, PartitionSpec())
    assert sharding.constrain(jax.device_put(x, where), "batch", None).shape == (3, 4)
