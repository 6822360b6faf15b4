"""Tuning by reward: batches whose targets are the model's own answers, see `policy_gradient`."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import sharding
from pgjax.evaluation.rollouts import Rollouts
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.models.loss import make_loss
from pgjax.training.policy_gradient import advantages


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
