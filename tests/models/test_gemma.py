"""The decoder's parts against numpy in float64, written from the published formulas."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import make, params, quick_jit

from pgjax.models import gemma
from pgjax.models.gemma import Block, FeedForward, RMSNorm, rope
from pgjax.models.lora import Lora


def rope_by_complex_numbers(x, positions, base=10_000.0):
    half = x.shape[-1] // 2
    z = x[..., :half] + 1j * x[..., half:]
    theta = base ** -(np.arange(half) / half)
    z = z * np.exp(1j * positions[:, :, None, None] * theta)
    return np.concatenate([z.real, z.imag], axis=-1)


def rms_norm(x, scale, eps=1e-6):
    rows = x.reshape(-1, x.shape[-1])
    return np.stack([r / np.sqrt((r @ r) / r.size + eps) * (1 + scale) for r in rows]).reshape(
        x.shape
    )


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(x, p, positions, mask):
    q = np.einsum("BTD,NDH->BTNH", x, p["q_einsum"]["w"])
    k = np.einsum("BTD,KDH->BTKH", x, p["kv_einsum"]["w"][0])
    v = np.einsum("BTD,KDH->BTKH", x, p["kv_einsum"]["w"][1])
    q, k = (rope_by_complex_numbers(y, positions) for y in (q, k))
    out = np.zeros_like(x)
    for head in range(q.shape[2]):
        group = head // (q.shape[2] // k.shape[2])
        logits = np.einsum("BTH,BSH->BTS", q[:, :, head], k[:, :, group]) / np.sqrt(q.shape[-1])
        weights = np.exp(np.where(mask, logits, -np.inf))
        weights /= weights.sum(axis=-1, keepdims=True)
        out += weights @ v[:, :, group] @ p["attn_vec_einsum"]["w"][head]
    return out


def feed_forward(x, p):
    gate, up = x @ p["gating_einsum"][0], x @ p["gating_einsum"][1]
    return gelu_tanh(gate) * up @ p["linear"]


def block(x, p, positions, mask):
    x = x + attention(rms_norm(x, p["pre_attention_norm"]["scale"]), p["attn"], positions, mask)
    return x + feed_forward(rms_norm(x, p["pre_ffw_norm"]["scale"]), p["mlp"])


def layer(index):
    """One layer of the tiny model's parameters: as the module takes them, and in float64."""
    p = jax.tree.map(lambda w: w[index], params()["llm"]["layers"])
    return p, jax.tree.map(lambda w: np.asarray(w, np.float64), p)


def inputs(seed=0, rows=3, length=6):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, length, 16))
    positions = np.cumsum(rng.integers(0, 2, (rows, length)), axis=1).astype(np.int32)
    mask = rng.random((rows, length, length)) < 0.5
    mask |= np.eye(length, dtype=bool)
    return x, positions, mask


@pytest.mark.parametrize("base", [10_000.0, 500.0])
def test_rope_is_a_complex_rotation(base):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3, 8))
    positions = rng.integers(0, 1000, (2, 5)).astype(np.int32)
    got = quick_jit(rope)(jnp.asarray(x, jnp.float32), jnp.asarray(positions), base)
    np.testing.assert_allclose(got, rope_by_complex_numbers(x, positions, base), atol=2e-4)


def test_rope_depends_on_distance_only():
    rng = np.random.default_rng(1)
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 16)), jnp.float32) for _ in range(2))
    turn = quick_jit(rope)

    def product(i, j):
        return float(jnp.sum(turn(q, jnp.int32([[i]])) * turn(k, jnp.int32([[j]]))))

    assert product(3, 1) == pytest.approx(product(13, 11), abs=1e-4)
    assert product(3, 1) != pytest.approx(product(4, 1), abs=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rms_norm(dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, 16)) * 100, dtype)
    scale = rng.normal(size=16)
    variables = {"params": {"scale": jnp.asarray(scale, jnp.float32)}}
    got = quick_jit(RMSNorm(1e-6).apply)(variables, x)
    assert got.dtype == dtype
    want = rms_norm(np.asarray(x, np.float64), scale)
    tolerance = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=tolerance, atol=tolerance)


def test_rms_norm_eps_and_overflow():
    zero = {"params": {"scale": jnp.zeros(4)}}
    tiny = RMSNorm(1e-6).apply(zero, jnp.full((1, 4), 1e-3))
    np.testing.assert_allclose(tiny, np.full((1, 4), 1e-3 / np.sqrt(2e-6)), rtol=1e-5)
    # The squares of these overflow float16; the norm is computed in float32.
    large = RMSNorm(1e-6).apply(zero, jnp.full((1, 4), 60_000.0, jnp.float16))
    np.testing.assert_allclose(np.asarray(large, np.float32), 1.0, rtol=1e-3)


def test_feed_forward():
    p, p64 = layer(0)
    x, *_ = inputs()
    got = quick_jit(FeedForward(24).apply)({"params": p["mlp"]}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, feed_forward(x, p64["mlp"]), atol=2e-5)


@pytest.mark.parametrize(("index", "size"), [(0, 1.0), (1, 0.01)])  # eps shows in small ones
def test_block(index, size):
    p, p64 = layer(index)
    x, positions, mask = inputs(index)
    x *= size
    apply = quick_jit(
        lambda p, x, *args: Block(make().llm_config).apply(
            {"params": p}, x, None, *args, None, True
        )
    )
    x32 = jnp.asarray(x, jnp.float32)
    got, cache = apply(p, x32, jnp.asarray(positions), jnp.asarray(mask))
    assert cache is None
    np.testing.assert_allclose(got, block(x, p64, positions, mask), atol=5e-5)


def test_whole_decoder():
    """Embedding scaled by √width, layers in order, final norm, tied output embedding."""
    model, p = make(), params()
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.llm_config.vocab_size, (2, 5)).astype(np.int32)
    positions = np.tile(np.arange(5, dtype=np.int32), (2, 1))
    mask = np.tile(np.tril(np.ones((5, 5), bool)), (2, 1, 1))

    def run(m, tokens):
        hidden, _ = m.llm(m.llm.embed(tokens), jnp.asarray(positions), jnp.asarray(mask))
        return m.llm.logits(hidden)

    got = quick_jit(lambda p, t: model.apply({"params": p}, t, method=run))(p, jnp.asarray(tokens))
    table = np.asarray(p["llm"]["embedder"]["input_embedding"], np.float64)
    x = table[tokens] * 4.0
    for index in range(2):
        x = block(x, layer(index)[1], positions, mask)
    scale = np.asarray(p["llm"]["final_norm"]["scale"], np.float64)
    np.testing.assert_allclose(got, rms_norm(x, scale) @ table.T, atol=1e-4)


def test_block_with_cache_writes_where_it_is_told():
    p, p64 = layer(0)
    x, positions, _ = inputs()
    mask = np.tile(np.tril(np.ones((6, 6), bool)), (3, 1, 1))
    want = block(x, p64, positions, mask)
    apply = quick_jit(lambda *args: Block(make().llm_config).apply({"params": p}, *args, True))
    cache = {name: jnp.zeros((3, 6, 2, 8)) for name in ("k", "v")}
    for start, stop in ((0, 4), (4, 5), (5, 6)):
        part = np.s_[:, start:stop]
        got, cache = apply(
            jnp.asarray(x[part], jnp.float32), cache, jnp.asarray(positions[part]),
            jnp.asarray(mask[part]), jnp.int32(start),
        )  # fmt: skip
        np.testing.assert_allclose(got, want[part], atol=5e-5)
        assert not np.any(np.asarray(cache["k"])[:, stop:])


@pytest.mark.parametrize("rank", [0, 2])
def test_hidden_units_in_parts(rank, monkeypatch):
    """A part of the tokens after the other gives the same values and gradients of everything."""
    module = gemma.FeedForward(24, Lora(rank=rank), in_parts=True)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 7, 16)), jnp.float32)  # parts of 3, the last one filled up
    params = nn.unbox(module.init(jax.random.key(0), x))["params"]
    params = jax.tree.map(
        lambda p: jnp.asarray(rng.normal(size=p.shape) * 0.3, jnp.float32), params
    )
    assert len(params) == (6 if rank else 2)
    weight = rng.normal(size=x.shape).astype(np.float32)

    def total(params, x):
        y = module.apply({"params": params}, x)
        return jnp.sum(weight * y), y

    def run():  # anew each time, for traces are kept by function
        return jax.jit(lambda *args: jax.value_and_grad(total, (0, 1), has_aux=True)(*args))

    want = run()(params, x)
    monkeypatch.setattr(gemma, "_MOST_HIDDEN", 2 * 7 * 24 * 4 * 2 // 3)
    text = run().lower(params, x).as_text()
    assert "tensor<2x7x24xf32>" not in text and "tensor<2x3x24xf32>" in text
    got = run()(params, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
