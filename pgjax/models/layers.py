"""Running a tower's layers: scanned over stacked parameters, or one after the other.

Training scans: the program stays small, and each layer is rematerialised by a named policy. A
scan copies each layer's weights out of the stack before it multiplies, which is nothing beside a
batch of a thousand tokens, and half the time of a single one; so `pgjax.load` leaves the decoder's
layers apart (`Unstacked`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax

from pgjax.errors import UserError

POLICIES: dict[str, Callable | None] = {
    "full": jax.checkpoint_policies.nothing_saveable,  # keep only each layer's input
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keep matmul results
    "none": None,  # keep everything
}


def scan_layers(block: type[nn.Module], *, length: int, policy: str, num_broadcast: int):
    """Stacks `length` copies of a block under `jax.lax.scan`, rematerialised by a named policy.

    The block's call is `(carry, per_layer, *broadcast) -> (carry, per_layer_out)`; parameters
    get a leading axis of size `length`, with the logical name `layers`.

    Raises:
      UserError: unknown policy.
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
        in_axes=(0,) + (nn.broadcast,) * num_broadcast,
        length=length,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


@flax.struct.dataclass
class Unstacked:
    """A parameter [L,…] kept as L values of their own: arrays, or pytrees of them."""

    layers: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """[L,…], as if stacked."""
        return (len(self.layers), *self.layers[0].shape)

    @property
    def nbytes(self) -> int:
        """Of all layers."""
        return sum(x.nbytes for x in jax.tree.leaves(self))


def unstacked_layers(module: nn.Module, name: str) -> Sequence[Any] | None:
    """The parameter trees of a submodule's layers where they are unstacked, else None."""
    params = module.variables.get("params", {}).get(name, {})
    leaves = jax.tree.leaves(params, is_leaf=_is_unstacked)
    if not any(map(_is_unstacked, leaves)):
        return None
    return [_layer(params, i) for i in range(len(leaves[0].layers))]


def _layer(params: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x.layers[i], params, is_leaf=_is_unstacked)


def _is_unstacked(x: Any) -> bool:
    return isinstance(x, Unstacked)
