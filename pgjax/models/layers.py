"""A tower's layers, run by a scan over stacked parameters, or one after the other.

Training scans, which keeps the program small, and rematerialises each layer by a named policy. A
scan copies each layer's weights out of the stack before it multiplies. That costs nothing beside a
batch of a thousand tokens, but half the time of a single token; so `pgjax.load` keeps the decoder's
layers apart (`Unstacked`).
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax

from pgjax.errors import UserError

POLICIES: dict[str, Callable | None] = {
    "full": jax.checkpoint_policies.nothing_saveable,  # keep only each layer's input
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keep matmul results
    "none": None,  # keep everything
}


def named_init(init: nn.initializers.Initializer, *axes: str | None) -> nn.initializers.Initializer:
    """Gives a parameter's axes their logical names, which `pgjax.sharding` partitions it by.

    Flax boxes the value that the initializer makes and unboxes it again in `module.param`, so that
    a module sees an array.

    Args:
      init: makes the value.
      axes: one logical name for each axis of the parameter, None for an axis without one.
    """
    return cast(nn.initializers.Initializer, nn.with_logical_partitioning(init, axes))


def scan_layers(
    block: type[nn.Module], *, length: int, policy: str, num_broadcast: int
) -> Callable[..., Any]:
    """Stacks copies of a block under `jax.lax.scan`, rematerialised by a named policy.

    The block's call is `(carry, per_layer, *broadcast, deterministic) -> (carry, per_layer_out)`.
    Its parameters get a leading axis of size `length` with the logical name `layers`.

    Args:
      block: the module class of one layer.
      length: number of layers.
      policy: a key of `POLICIES`.
      num_broadcast: arguments after `per_layer` that are the same in every layer, `deterministic`
        among them.

    Returns:
      A module class with the fields of `block`.

    Raises:
      UserError: the policy is unknown.
    """
    if policy not in POLICIES:
        raise UserError(f"remat {policy!r} is unknown; choose from {list(POLICIES)}.")
    if POLICIES[policy] is not None:
        # Scan bodies are never merged by common-subexpression elimination.
        block = nn.remat(
            block,
            policy=POLICIES[policy],
            prevent_cse=False,
            static_argnums=(2 + num_broadcast,),  # the deterministic flag; 0 is self
        )
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        # The annotation of flax says int, its documentation any prefix of the arguments.
        in_axes=cast(int, (0,) + (nn.broadcast,) * num_broadcast),
        length=length,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


@flax.struct.dataclass
class Unstacked:
    """A parameter [L,…] of L layers stored as L separate values, each an array or a pytree."""

    layers: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape [L,…] that the stacked parameter would have."""
        return (len(self.layers), *self.layers[0].shape)

    @property
    def nbytes(self) -> int:
        """The size of all layers in bytes."""
        return sum(x.nbytes for x in jax.tree.leaves(self))


def unstacked_layers(module: nn.Module, name: str) -> Sequence[Any] | None:
    """Returns a submodule's parameter trees by layer, or None where its layers are stacked."""
    params = module.variables.get("params", {}).get(name, {})
    leaves = jax.tree.leaves(params, is_leaf=_is_unstacked)
    if not any(map(_is_unstacked, leaves)):
        return None
    return [_layer(params, i) for i in range(len(leaves[0].layers))]


def _layer(params: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x.layers[i], params, is_leaf=_is_unstacked)


def _is_unstacked(x: Any) -> bool:
    return isinstance(x, Unstacked)
