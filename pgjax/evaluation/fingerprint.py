"""What predictions depend on, so that those of one thing are never continued with another."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax import sharding
from pgjax.config import to_dict

# Keys of an evaluation that change how it runs, or what is done with its records.
_RUNNING = {"batch_size", "every", "on_bad_example", "workers", "submission", "published"}
_UNITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def identity(evaluator: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able; equal for two evaluations exactly if they give the same predictions."""
    context, spec = evaluator.context, to_dict(evaluator.spec)
    return {
        **{key: value for key, value in spec.items() if key not in _RUNNING},
        "examples": len(evaluator.part.source),
        "model": {k: v for k, v in to_dict(context.config.model).items() if k != "remat"},
        "tokenizer": hashlib.sha256(context.tokenizer.model_bytes).hexdigest()[:16],
        "parameters": fingerprint(params, context.mesh),
    }


def fingerprint(params: Mapping[str, Any], mesh: Mesh) -> str:
    """16 hexadecimal digits of the names, shapes, dtypes and bits of all parameters.

    Integer sums modulo 2³²: the same on every mesh, in whatever order they are taken.
    """
    leaves = jax.tree_util.tree_leaves_with_path(dict(sorted(params.items())))
    digest = hashlib.sha256()
    for path, x in leaves:
        sums = np.asarray(_sums(sharding.replicated(mesh))(x)).tolist()
        digest.update(f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype} {sums};".encode())
    return digest.hexdigest()[:16]


@functools.cache
def _sums(where: Any) -> Any:
    @functools.partial(jax.jit, out_shardings=where)
    def sums(x: jax.Array) -> jax.Array:
        """uint32 [2]: the sum of the elements' bits, and that weighted by place."""
        bits = jax.lax.bitcast_convert_type(x, _UNITS[x.dtype.itemsize]).astype(jnp.uint32)
        place = jnp.ones(x.shape, jnp.uint32)
        for axis in range(x.ndim):
            at = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
            place = place * jnp.uint32(2654435761) + at
        weighted = jnp.sum(bits * place, dtype=jnp.uint32)
        return jnp.stack([jnp.sum(bits, dtype=jnp.uint32), weighted])

    return sums
