"""Small partitioned programs, whose texts `test_program_cost.py` reads; run with 8 devices."""

import json
import sys

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

MESH = jax.make_mesh((8,), ("data",), (AxisType.Auto,))


def arrays(*specs):
    """(shape, axes) each."""
    return [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(MESH, PartitionSpec(*axes)))
        for shape, axes in specs
    ]


def gather_in_a_loop(x, w):
    """A scan over three layers of [64,64], each gathered from eight devices."""
    whole = NamedSharding(MESH, PartitionSpec())

    def layer(x, w):
        return x @ jax.lax.with_sharding_constraint(w, whole), None

    return jax.lax.scan(layer, x, w)[0]


def exchange(kind):
    """A `shard_map` with one collective of [16,32] on each device."""
    names = PartitionSpec("data")
    functions = {
        "all-reduce": (lambda x: jax.lax.psum(x, "data"), PartitionSpec()),
        "reduce-scatter": (lambda x: jax.lax.psum_scatter(x, "data", tiled=True), names),
        "all-to-all": (
            lambda x: jax.lax.all_to_all(x, "data", 0, 0, tiled=True), names,
        ),
        "collective-permute": (
            lambda x: jax.lax.ppermute(x, "data", [(i, (i + 1) % 8) for i in range(8)]), names,
        ),
    }  # fmt: skip
    function, out = functions[kind]
    return jax.shard_map(function, mesh=MESH, in_specs=names, out_specs=out)


def main():
    """Prints the texts by name, as JSON."""
    loop = arrays(((16, 64), ("data",)), ((3, 64, 64), (None, "data")))
    programs = {"gather": (gather_in_a_loop, loop)}
    for kind in ("all-reduce", "reduce-scatter", "all-to-all", "collective-permute"):
        programs[kind] = (exchange(kind), arrays(((128, 32), ("data",))))
    texts = {n: jax.jit(f).lower(*args).compile().as_text() for n, (f, args) in programs.items()}
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
