"""Where parameters go on meshes of several devices, by the logical axes that models give them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from pgjax import sharding, trees
from pgjax.errors import UserError
from pgjax.models.paligemma import abstract_params, make_model


def leaf(*axes):
    """One abstract parameter; an axis is `name:size`, with - for no name."""
    names = tuple(None if a.split(":")[0] == "-" else a.split(":")[0] for a in axes)
    shape = tuple(int(a.split(":")[1]) for a in axes)
    return nn.Partitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)


def spec(strategy, box, data=4, model=2):
    mesh = AbstractMesh((data, model), ("data", "model"))
    out = sharding.param_shardings(mesh, {"w": box}, [(".*", strategy)])["w"].spec
    return tuple(out) + (None,) * (box.unbox().ndim - len(out))


EMBEDDING = leaf("vocab:1024", "embed:64")
GATING = leaf("layers:8", "-:2", "embed:64", "mlp:512")
QUERY = leaf("layers:8", "heads:4", "embed:64", "head_dim:16")
KEY_VALUE = leaf("layers:8", "-:2", "kv_heads:1", "embed:64", "head_dim:16")


@pytest.mark.parametrize(
    ("strategy", "box", "want"),
    [
        ("replicate", EMBEDDING, (None, None)),
        ("tensor", EMBEDDING, ("model", None)),
        ("fsdp", EMBEDDING, (None, "data")),  # rows are looked up, so it is split by feature
        ("fsdp+tensor", EMBEDDING, ("model", "data")),
        ("tensor", GATING, (None, None, None, "model")),
        ("fsdp", GATING, (None, None, None, "data")),
        ("fsdp+tensor", GATING, (None, None, "data", "model")),
        ("tensor", QUERY, (None, "model", None, None)),
        ("fsdp", QUERY, (None, None, "data", None)),
        ("fsdp+tensor", QUERY, (None, "model", "data", None)),
        ("tensor", KEY_VALUE, (None,) * 5),
        ("fsdp+tensor", KEY_VALUE, (None, None, None, "data", None)),
        # What does not divide stays whole, and the next largest is split instead.
        ("tensor", leaf("heads:3", "embed:64"), (None, None)),
        ("fsdp", leaf("embed:66", "mlp:32"), (None, "data")),
        ("fsdp", leaf("embed:6", "mlp:7"), (None, None)),
        ("fsdp+tensor", leaf("heads:3", "mlp:8"), ("-", "model")),
        # Never the scanned axis, however large it is.
        ("fsdp", leaf("layers:1024", "embed:4"), (None, "data")),
        ("fsdp", leaf("layers:1024", "embed:3"), (None, None)),
    ],
)
def test_strategies(strategy, box, want):
    assert spec(strategy, box) == tuple(None if w == "-" else w for w in want)


def test_first_match_decides():
    mesh = AbstractMesh((4, 2), ("data", "model"))
    boxed = {"img": {"w": EMBEDDING}, "llm": {"w": EMBEDDING, "b": EMBEDDING}}
    rules = [("img/.*", "replicate"), (".*/w", "tensor"), (".*", "fsdp")]
    got = {n: s.spec for n, s in sharding.param_shardings(mesh, boxed, rules).items()}
    assert got == {
        "img/w": PartitionSpec(None, None),
        "llm/w": PartitionSpec("model", None),
        "llm/b": PartitionSpec(None, "data"),
    }


def test_unknown_strategy_and_unmatched_name():
    mesh = AbstractMesh((4, 2), ("data", "model"))
    with pytest.raises(UserError, match=r"config.sharding: \['zero3'\] is unknown.*fsdp\+tensor"):
        sharding.param_shardings(mesh, {"w": EMBEDDING}, [(".*", "zero3")])
    with pytest.raises(UserError, match=r"config.sharding: no rule matches 'w'"):
        sharding.param_shardings(mesh, {"w": EMBEDDING}, [("img/.*", "fsdp")])


def test_full_size_model_is_spread_evenly():
    """Under fsdp no device of 8 holds more than a hundredth above its eighth of the 3B model."""
    model = make_model(
        {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": "gemma_2b"}}
    )
    boxed = abstract_params(model)
    shapes = trees.flatten(nn.unbox(boxed))
    total = sum(int(np.prod(x.shape)) for x in shapes.values())
    for (data, mdl), strategy, most in (
        ((8, 1), "fsdp", 1.01 / 8),
        ((4, 2), "fsdp+tensor", 1.03 / 8),
        ((1, 8), "tensor", 1.3 / 8),
        ((8, 1), "replicate", 1.0),
    ):
        mesh = AbstractMesh((data, mdl), ("data", "model"))
        where = sharding.param_shardings(mesh, boxed, [(".*", strategy)])
        held = sum(int(np.prod(where[n].shard_shape(x.shape))) for n, x in shapes.items())
        assert 1 / 8 <= held / total <= most, strategy
        for name, s in where.items():
            if "layers" in name or "encoderblock" in name:
                assert not s.spec or s.spec[0] is None, name


@pytest.mark.parametrize(
    ("data", "model"), [(2, 1), (-1, 3), (-1, -1), (0, 1), (1, 0), (-1, 0), (-2, -2), (1, 2)]
)
def test_meshes_that_do_not_fit_one_device(data, model):
    with pytest.raises(UserError, match=rf"data={data}, model={model} does not fit 1 device"):
        sharding.make_mesh(data, model)


FOUR_DEVICES = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from pgjax import sharding
from pgjax.checkpoints.placement import put
from pgjax.errors import UserError

assert jax.device_count() == 4
shapes = {}
for args in [(-1, 1), (-1, 2), (2, -1), (1, -1), (4, 1), (2, 2)]:
    mesh = sharding.make_mesh(*args)
    shapes[args] = (mesh.shape["data"], mesh.shape["model"])
assert list(shapes.values()) == [(4, 1), (2, 2), (2, 2), (1, 4), (4, 1), (2, 2)], shapes
for args in [(3, 1), (-1, 3), (2, 1), (8, -1)]:
    try:
        sharding.make_mesh(*args)
    except UserError:
        continue
    raise AssertionError(args)

mesh = sharding.make_mesh(2, 2)
batch = sharding.to_device(mesh, {"x": np.arange(8.0).reshape(4, 2)})["x"]
rows = {s.device.id: s.data.tolist() for s in batch.addressable_shards}
halves = [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]
assert sorted(map(str, rows.values())) == sorted(map(str, halves * 2)), rows

value = np.arange(32, dtype=np.float32).reshape(4, 8)
array = put(value, NamedSharding(mesh, P("data", "model")), "bfloat16")
assert array.dtype == "bfloat16" and {s.data.shape for s in array.addressable_shards} == {(2, 4)}
np.testing.assert_array_equal(np.asarray(array, np.float32), value)
for shard in array.addressable_shards:
    np.testing.assert_array_equal(np.asarray(shard.data, np.float32), value[shard.index])
"""


def test_four_devices(command):
    command("-c", FOUR_DEVICES, devices=4)
