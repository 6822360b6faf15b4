"""The policy gradient over groups of answers, held near the start by a KL term.

For each prompt the model draws N answers y from its own distribution π. What is maximized is the
mean of r(y) - β·KL(π‖π₀), where r is the reward, π₀ the model at the start of the run, and
KL(π‖π₀) the mean of log π(y) - log π₀(y). An answer's worth r(y) - β·(log π(y) - log π₀(y)), less
the mean of its group and divided by the group's standard deviation, is its advantage, as in GRPO
(Shao et al., arXiv:2402.03300). Each group serves one update, so that neither ratios of
probabilities nor their clipping are needed, and the gradient is that of REINFORCE (Williams, 1992):
the mean over the tokens of all answers of advantage · ∇ log π.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float32

_LEAST_DEVIATION = 1e-4  # of a group's worth, below which its answers count as equally good


def advantages(worth: Float32[jax.Array, " m"], samples: int) -> Float32[jax.Array, " m"]:
    """How much better than others of its group each answer is, in standard deviations.

    Args:
      worth: float32 [B·N], the answers to a prompt beside each other.
      samples: N.
    """
    groups = worth.reshape(-1, samples)
    groups -= groups.mean(axis=1, keepdims=True)
    deviation = groups.std(axis=1, keepdims=True)
    return jnp.where(deviation < _LEAST_DEVIATION, 0.0, groups / deviation).reshape(-1)


def answer_weights(batch: Mapping[str, Any]) -> Float32[jax.Array, " m"]:
    """The weights of rows [M] that make the mean loss of their targets that of the policy gradient.

    The loss of a row is the mean over its tokens, so that a row of n tokens has the weight
    advantage · n / (tokens of all rows).
    """
    count = (batch["mask_loss"][:, 1:] > 0).sum(axis=1).astype(jnp.float32)
    return batch["advantage"] * count / jnp.maximum(count.sum(), 1.0)
