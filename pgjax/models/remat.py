"""Rematerialisation by name: what a layer keeps for the backward pass."""

from collections.abc import Callable

import flax.linen as nn
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
