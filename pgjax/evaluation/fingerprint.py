"""Identifies an evaluation by all that its predictions depend on.

Stored predictions are only continued by an evaluation with the same identity.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from pgjax import sharding
from pgjax.config import to_dict
from pgjax.evaluation.evaluators import Evaluator

# Keys of an evaluation on which its predictions do not depend.
_IRRELEVANT = {"batch_size", "every", "on_bad_example", "workers", "submission", "published"}
_UNITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def identity(evaluator: Evaluator, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the predictions of an evaluation depend on, as values that JSON can hold."""
    context, spec = evaluator.context, to_dict(evaluator.spec)
    return {
        **{key: value for key, value in spec.items() if key not in _IRRELEVANT},
        "examples": len(evaluator.part.source),
        "model": {k: v for k, v in to_dict(context.config.model).items() if k != "remat"},
        "tokenizer": hashlib.sha256(context.tokenizer.model_bytes).hexdigest()[:16],
        "parameters": fingerprint(params, context.mesh),
    }


def fingerprint(params: Mapping[str, Any], mesh: Mesh) -> str:
    """Returns 16 hexadecimal digits for the names, shapes, dtypes and bits of all parameters.

    The bits enter as sums of integers modulo 2³², which are the same on every mesh, because they do
    not depend on the order of summation.
    """
    leaves = jax.tree_util.tree_leaves_with_path(dict(sorted(params.items())))
    digest = hashlib.sha256()
    for path, x in leaves:
        sums = np.asarray(_sums(sharding.replicated(mesh))(x)).tolist()
        digest.update(f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype} {sums};".encode())
    return digest.hexdigest()[:16]


@functools.cache
def _sums(where: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    @functools.partial(jax.jit, out_shardings=where)
    def sums(x: jax.Array) -> jax.Array:
        """Returns uint32 [2], the sum of the elements' bits and their sum weighted by place."""
        bits = jax.lax.bitcast_convert_type(x, _UNITS[x.dtype.itemsize]).astype(jnp.uint32)
        place = jnp.ones(x.shape, jnp.uint32)
        for axis in range(x.ndim):
            at = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
            place = place * jnp.uint32(2654435761) + at
        weighted = jnp.sum(bits * place, dtype=jnp.uint32)
        return jnp.stack([jnp.sum(bits, dtype=jnp.uint32), weighted])

    return sums
