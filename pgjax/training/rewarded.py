"""Tuning by reward: policy gradients over groups of answers, held near the start by a KL term.

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
import numpy as np
from jaxtyping import Float32

from pgjax import sharding
from pgjax.evaluation.rollouts import Rollouts
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.models.loss import make_loss

_LEAST_DEVIATION = 1e-4  # of a group's worth, below which its answers count as equally good


class RewardedBatches:
    """Makes batches of rewarded answers from the batches of a run's data."""

    def __init__(self, context: ModelContext, start: Flat, text_len: int) -> None:
        """Prepares to draw and to compare answers.

        Args:
          context: of the run, whose config has a reward.
          start: the trainable parameters at the start of the run, π₀.
          text_len: tokens of a text.

        Raises:
          UserError: see `Rollouts`.
        """
        config = context.config
        self._context, self._kl = context, config.reward.kl
        self._start = jax.tree.map(jnp.copy, start) if self._kl else {}
        self._rollouts = Rollouts(context, config.reward, config.input.batch_size, text_len)
        loss = make_loss(context.model, label_smoothing=0.0, chunk=config.loss_chunk)
        samples = config.reward.samples

        def log_probability(trainable: Flat, frozen: Flat, batch: Flat) -> jax.Array:
            weight = jnp.ones(batch["text"].shape[:1], jnp.float32)
            return -loss(trainable, frozen, batch, weight, None)[1].sum(axis=1)

        def weigh(trainable, start, frozen, batch, rewards):
            divergence = jnp.zeros_like(rewards)
            if self._kl:
                divergence = log_probability(trainable, frozen, batch)
                divergence -= log_probability(start, frozen, batch)
            advantage = advantages(rewards - self._kl * divergence, samples)
            told = {"reward": rewards.mean(), "kl": divergence.mean()}
            return advantage, told if self._kl else {"reward": told["reward"]}

        mesh = context.mesh
        whole = sharding.replicated(mesh)
        self._weigh = jax.jit(weigh, out_shardings=(sharding.batch_sharding(mesh), whole))

    def __call__(
        self, trainable: Flat, frozen: Flat, host: Mapping[str, np.ndarray], step: int
    ) -> tuple[Flat, dict[str, jax.Array]]:
        """Draws answers to a batch's prompts.

        Args:
          trainable: the trainable parameters, π.
          frozen: the others.
          host: this process's rows of a training batch.
          step: of the update that the answers are for, which decides what is drawn.

        Returns:
          The batch of that update, on the devices: the answers as targets, with `advantage`; and
          what is reported, the mean reward and the mean KL divergence in nats per answer.

        Raises:
          DataError: see `Rollouts.draw`.
        """
        context = self._context
        seed = np.random.SeedSequence([context.config.seed, step]).generate_state(1)[0] % 2**31
        drawn = self._rollouts.draw({**frozen, **trainable}, host, int(seed))
        batch = sharding.to_device(context.mesh, {**drawn.batch, "rewards": drawn.rewards})
        rewards = batch.pop("rewards")
        with context.traced():
            batch["advantage"], told = self._weigh(trainable, self._start, frozen, batch, rewards)
        return batch, told


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
