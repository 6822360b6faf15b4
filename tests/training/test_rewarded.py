"""Tuning by reward: what answers are worth, runs that go on, and configs that do not fit."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import trees
from pgjax.config import check_training, parse_config
from pgjax.data.sources import make_source
from pgjax.errors import ConfigError, UserError
from pgjax.loading.model_context import open_model_context
from pgjax.loading.parameters import load_parameters
from pgjax.metrics import get_metric
from pgjax.recipes import transfer
from pgjax.training.loop import train
from pgjax.training.policy_gradient import advantages
from pgjax.training.rewarded import RewardedBatches

SCENES = {"name": "scenes", "tasks": ("detect",), "wording": "pt"}


def config(steps=4, **reward):
    c = transfer(
        "rewarded", train=SCENES, evals={}, prompt="", target="", variant="tiny", text_len=28,
        steps=steps, batch_size=2, lr=1e-3,
    )  # fmt: skip
    c.reward.metric, c.reward.samples, c.frozen_dtype = {"name": "listed_objects"}, 4, "float32"
    c.reward.kl, c.log_every, c.checkpoint_every = 0.05, 1, 2
    for key, value in reward.items():
        c.reward[key] = value
    return c


def test_advantages_are_standard_scores_of_groups():
    worth = np.random.default_rng(0).normal(2, 3, (5, 4)).astype(np.float32)
    worth[3] = 0.25  # all as good
    got = advantages(jnp.asarray(worth.reshape(-1)), 4).reshape(5, 4)
    for group, row in zip(worth, np.asarray(got), strict=True):
        spread = group.std() or 1
        np.testing.assert_allclose(row, (group - group.mean()) / spread, rtol=1e-4, atol=1e-6)
    assert not np.asarray(got)[3].any()


def test_the_gradient_is_that_of_reward_less_divergence():
    """Over all answers of a policy of one token, which can be listed; the mean is the baseline."""
    rng = np.random.default_rng(1)
    theta, start, reward = (jnp.asarray(rng.normal(size=7), jnp.float32) for _ in range(3))
    kl = 0.3

    def objective(theta):
        log, log_start = jax.nn.log_softmax(theta), jax.nn.log_softmax(start)
        return (jnp.exp(log) * (reward - kl * (log - log_start))).sum()

    log = jax.nn.log_softmax(theta)
    worth = reward - kl * (log - jax.nn.log_softmax(start))
    # As many answers of each kind as the policy gives, up to rounding, in one group.
    count = np.round(np.exp(np.asarray(log, np.float64)) * 100_000).astype(int)
    group = np.repeat(np.arange(7), count)
    advantage = advantages(worth[group], len(group))
    policy = jax.grad(lambda theta: (advantage * jax.nn.log_softmax(theta)[group]).mean())(theta)
    np.testing.assert_allclose(
        policy * np.asarray(worth)[group].std(), jax.grad(objective)(theta), atol=2e-4
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answering": {"objects": 3}}, "config.answering.objects is 3; expected 0"),
        ({"label_smoothing": 0.1}, "config.label_smoothing is 0.1; expected 0"),
    ],
)
def test_what_does_not_go_with_a_reward(changes, message):
    c = config()
    c.update(changes)
    with pytest.raises(ConfigError, match=message):
        check_training(parse_config(c))


def test_a_metric_of_the_corpus_is_no_reward(tmp_path):
    c = config(metric={"name": "mean_average_precision"})
    with pytest.raises(UserError, match="scores all answers together"):
        train(c, tmp_path / "run")


@pytest.mark.slow
def test_advantages_of_drawn_answers():
    """Rewards, likelihoods and divergence are computed again from answers and whole logits."""
    context = open_model_context(parse_config(config()))
    params = load_parameters(context, dict.fromkeys(context.shapes, "float32"))
    start = dict(params)
    noise = np.random.default_rng(0)
    name = "llm/layers/mlp/linear"
    params[name] = start[name] + noise.normal(0, 0.05, start[name].shape).astype(np.float32)
    rewarded = RewardedBatches(context, {name: start.pop(name)}, 28)
    trainable = {name: params.pop(name)}
    pipeline = context.pipeline(context.config.input.pp)
    source = make_source(SCENES)
    rows = [pipeline(source[i], rng=np.random.default_rng(0)) for i in range(2)]
    host = {
        k: np.stack([row[k] for row in rows]) for k in ("image", "text", "mask_ar", "mask_loss")
    }
    batch, told = rewarded(trainable, params, host, 7)
    again, _ = rewarded(trainable, params, host, 7)
    other, _ = rewarded(trainable, params, host, 8)
    np.testing.assert_array_equal(batch["text"], again["text"])
    assert (np.asarray(batch["text"]) != np.asarray(other["text"])).any()

    text, mask_loss = np.asarray(batch["text"]), np.asarray(batch["mask_loss"]) > 0
    decode = context.tokenizer.decode
    metric, rewards = get_metric("listed_objects"), []
    for i in range(8):
        np.testing.assert_array_equal(batch["image"][i], host["image"][i // 4])
        prompt = host["mask_ar"][i // 4] == 0
        np.testing.assert_array_equal(text[i][prompt], host["text"][i // 4][prompt])
        assert not mask_loss[i][prompt].any()
        answer = decode(text[i][mask_loss[i]].tolist())
        rewards.append(metric(answer, {"suffix": source[i // 4]["suffix"]})["ap"])

    def log_probability(changed):
        flat = {**params, name: changed}
        with context.traced():
            hidden = context.model.apply(
                {"params": trees.unflatten(flat)}, batch["image"], batch["text"][:, :-1],
                batch["mask_ar"][:, :-1],
            )  # fmt: skip
        logits = (
            np.asarray(hidden, np.float64) @ np.float64(params["llm/embedder/input_embedding"]).T
        )
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        own = np.take_along_axis(logp, text[:, 1:, None], -1)[:, :, 0]
        return (own * mask_loss[:, 1:]).sum(1)

    divergence = log_probability(trainable[name]) - log_probability(rewarded._start[name])
    worth = (np.array(rewards) - 0.05 * divergence).reshape(2, 4)
    spread = worth.std(1, keepdims=True)
    want = np.where(spread < 1e-4, 0, worth - worth.mean(1, keepdims=True)) / np.maximum(
        spread, 1e-4
    )
    np.testing.assert_allclose(batch["advantage"], want.reshape(-1), rtol=1e-3, atol=1e-3)
    assert float(told["kl"]) == pytest.approx(divergence.mean(), abs=1e-4)
    assert float(told["reward"]) == pytest.approx(np.mean(rewards), rel=1e-5)
    assert abs(divergence).max() > 0.01 and np.ptp(rewards) > 0


@pytest.mark.slow
def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    """The steps after a checkpoint are taken twice, in one process and after a restart."""

    def rows():
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if "reward" in row]

    c = config()
    c.keep_last = 2
    train(c, tmp_path)
    first = rows()
    train(c, tmp_path, resume_from=2)
    again = rows()[2:]
    assert list(tmp_path.rglob("*unused*"))  # the checkpoint of step 4, from before
    assert [row["step"] for row in first] == [1, 2, 3, 4]
    assert [row["step"] for row in again] == [3, 4]
    for row, other in zip(first[2:], again, strict=True):
        for key in ("loss", "reward", "kl", "l2_grads", "l2_params"):
            assert row[key] == other[key], (row["step"], key)
    assert first[0]["kl"] == 0 and first[3]["kl"] != 0
