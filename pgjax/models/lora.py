"""Low-rank adapters (LoRA, Hu et al., arXiv:2106.09685), and the products that they add to.

A matrix W called `…/w` may have adapter matrices A and B beside it, called `…/w_lora_a` and
`…/w_lora_b`; the product is then x·W + scale·(x·A)·B. B starts at zero, so a new adapter does not
change the model. The parameters of the released files keep their names and shapes.

Einsum letters are those of the caller. C counts matrices that one parameter holds side by side (key
and value; gate and up), each with an adapter of its own. R is the rank.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax.errors import UserError
from pgjax.models.layers import named_init
from pgjax.models.quantized import stored_matrix
from pgjax.models.rows import products, times
from pgjax.sharding import gather

A, B = "_lora_a", "_lora_b"  # suffixes of the matrix's name


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which matrices have adapters, and of what kind; rank 0 means that none has."""

    rank: int = 0
    alpha: float = 16.0
    rslora: bool = False
    dropout: float = 0.0
    targets: str = ".*"  # regex that the full parameter name must match

    @property
    def scale(self) -> float:
        """The factor of an adapter's product: α/r, or α/√r for rsLoRA (arXiv:2312.03732)."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


def lora_config(spec: Mapping[str, Any]) -> Lora:
    """Builds a `Lora` from `dict(rank=, alpha=, rslora=, dropout=, targets=)`.

    Raises:
      UserError: a key is unknown, or a value is out of range.
    """
    known = [f.name for f in dataclasses.fields(Lora)]
    if unknown := sorted(spec.keys() - set(known)):
        raise UserError(f"model.lora: unknown key {unknown}; it takes {known}.")
    lora = Lora(**spec)
    if lora.rank < 0 or lora.rank != int(lora.rank):
        raise UserError(f"model.lora.rank is {lora.rank}, expected a whole number, 0 for none.")
    if not 0 <= lora.dropout < 1:
        raise UserError(f"model.lora.dropout is {lora.dropout}, expected at least 0 and below 1.")
    try:
        re.compile(lora.targets)
    except re.error as e:
        raise UserError(
            f"model.lora.targets: {lora.targets!r} is not a regular expression ({e})."
        ) from None
    return lora


def is_adapter(name: str) -> bool:
    """Says whether a parameter of this name belongs to an adapter."""
    return name.endswith((A, B))


def product(
    module: nn.Module,
    eqn: str,
    x: jax.Array,
    *,
    name: str,
    shape: tuple[int, ...],
    axes: tuple[str | None, ...],
    init: nn.initializers.Initializer,
    lora: Lora,
    deterministic: bool,
) -> tuple[jax.Array, ...]:
    """Computes `einsum(eqn, x, w)` with a parameter w, and adds the product of its adapter, if any.

    Args:
      module: the module that owns the parameters.
      eqn: an einsum of x and w such as `BTD,NDH->BTNH`; where w has the letter C, it comes first.
      x: [B,T,…] in the compute dtype.
      name: name of w.
      shape: shape of w.
      axes: logical names of w's axes.
      init: initializer of w.
      lora: which matrices get adapters when parameters are initialized, and their scale.
      deterministic: switches off the dropout in front of the adapter.

    Returns:
      One product in x's dtype for each matrix that w holds side by side; a single one without C.
    """
    letters, out = eqn.split("->")
    ours, theirs = letters.split(",")
    parts = "C" if theirs.startswith("C") else ""
    summed = "".join(a for a in theirs if a in ours)
    kept = "".join(a for a in theirs if a not in ours + parts)
    rest = "".join(a for a in ours if a not in summed)
    size = {"R": lora.rank, **dict(zip(theirs, shape, strict=True))}
    axis = {"R": None, **dict(zip(theirs, axes, strict=True))}

    def matrix(suffix: str, letters: str, init: nn.initializers.Initializer) -> jax.Array:
        names = tuple(axis[a] for a in letters)
        w = module.param(name + suffix, named_init(init, *names), tuple(size[a] for a in letters))
        if w.dtype.itemsize < x.dtype.itemsize:  # gathered in the narrower dtype
            return gather(w, names).astype(x.dtype)
        return gather(w.astype(x.dtype), names)

    stored = stored_matrix(module, name)
    weight = matrix("", theirs, init) if stored is None else stored
    factors, dropped = [], x
    if _has_adapter(module, name, lora):
        # A is uniform within ±1/√inputs, as in the paper's code and in peft.
        inputs = range(len(parts), len(parts + summed))
        uniform = nn.initializers.variance_scaling(
            1 / 3, "fan_in", "uniform", inputs, -1, range(len(parts))
        )
        factors.append(matrix(A, f"{parts}{summed}R", uniform))
        factors.append(matrix(B, f"{parts}R{kept}", nn.initializers.zeros_init()))
        if lora.dropout:
            dropped = nn.Dropout(lora.dropout)(x, deterministic)

    def multiply(c: str, lead: str, w: jax.Array) -> jax.Array:
        result = c + out.removeprefix(parts)
        each = jnp.broadcast_to(x, (*(size[a] for a in lead), *x.shape))
        return jnp.einsum(f"{lead}{ours},{c}{theirs.removeprefix(parts)}->{result}", each, w)

    def adapted(y: jax.Array, c: str, factors: Sequence[jax.Array]) -> jax.Array:
        if not factors:
            return y
        result = c + out.removeprefix(parts)
        low = jnp.einsum(f"{ours},{c}{summed}R->{c}{rest}R", dropped, factors[0])
        return y + lora.scale * jnp.einsum(f"{c}{rest}R,{c}R{kept}->{result}", low, factors[1])

    if x.shape[1] == 1:
        if isinstance(weight, jax.Array):
            # A product that has w's leading axes as a batch reads w in its own layout. With one x
            # for all of them, XLA moves w into another layout first, which costs more than a
            # token's arithmetic.
            lead = "".join(itertools.takewhile(lambda a: a not in ours, theirs))
            y = multiply(parts, lead, weight)
        else:
            flat = x.reshape(-1, math.prod(size[a] for a in summed))
            y = times(flat, weight).reshape(
                *x.shape[: x.ndim - len(summed)], *(size[a] for a in parts + kept)
            )
            y = jnp.einsum(f"{rest}{parts}{kept}->{out}", y)
        y = adapted(y, parts, factors)
        return tuple(y) if parts else (y,)
    # One matrix at a time, so that nothing, and no gradient, holds both of the largest activations.
    count = size[parts] if parts else 1
    if isinstance(weight, jax.Array):
        each = [multiply("", "", w) for w in (weight if parts else [weight])]
    else:
        flat = x.reshape(*x.shape[: x.ndim - len(summed)], -1)
        each = [
            y.reshape(*y.shape[:-1], *(size[a] for a in kept))
            for y in products(flat, weight, parts=count)
        ]
    pairs = [[f[i] for f in factors] if parts else factors for i in range(count)]
    return tuple(adapted(y, "", pair) for y, pair in zip(each, pairs, strict=True))


def _has_adapter(module: nn.Module, name: str, lora: Lora) -> bool:
    """Asks the config while parameters are initialized, and afterwards the parameters."""
    if not module.is_initializing():
        return module.has_variable("params", name + A)
    path = "/".join((*module.path, name))
    return bool(lora.rank and re.fullmatch(lora.targets, path))
