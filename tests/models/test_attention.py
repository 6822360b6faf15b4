"""Attention and its masks against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from tiny_model import quick_jit

from pgjax.models.attention import attend
from pgjax.models.paligemma import make_attn_mask


def attend_slowly(q, k, v, mask, scale):
    """One query at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    b, t, n, h = q.shape
    out = np.zeros((b, t, n, h))
    for i in range(b):
        for j in range(t):
            for head in range(n):
                kv_head = head // (n // k.shape[2])
                seen = np.flatnonzero(mask[i, j])
                logits = k[i, seen, kv_head] @ q[i, j, head] * scale
                weights = np.exp(logits - logits.max())
                out[i, j, head] = weights / weights.sum() @ v[i, seen, kv_head]
    return out


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (4, 1)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 3e-3)]
)
def test_grouped_queries(heads, kv_heads, dtype, tolerance):
    rng = np.random.default_rng(heads * 10 + kv_heads)
    q = jnp.asarray(rng.normal(size=(2, 5, heads, 8)), dtype)
    k, v = (jnp.asarray(rng.normal(size=(2, 7, kv_heads, 8)), dtype) for _ in range(2))
    mask = rng.random((2, 5, 7)) < 0.6
    mask[:, :, 0] = True  # every query sees something
    scale = 0.7 if heads == 6 else None
    got = quick_jit(attend, static_argnums=4)(q, k, v, jnp.asarray(mask), scale)
    assert got.dtype == dtype
    want = attend_slowly(q, k, v, mask, scale or 8**-0.5)
    np.testing.assert_allclose(np.asarray(got, np.float64), want, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_without_mask_everything_is_seen(dtype):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, 6, 2, 4)), dtype) for _ in range(3))
    want = attend_slowly(q, k, v, np.ones((1, 6, 6), bool), 0.5)
    np.testing.assert_allclose(np.asarray(quick_jit(attend)(q, k, v), np.float64), want, atol=3e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_large_logits_and_blind_queries_stay_finite(dtype):
    # Logits of 200² = 40,000 fit into float16; their exponentials fit into nothing.
    q = jnp.full((1, 2, 1, 1), 200.0, dtype)
    k = jnp.asarray([200.0, 100.0, -200.0], dtype).reshape(1, 3, 1, 1)
    v = jnp.asarray([1.0, 2.0, 3.0], dtype).reshape(1, 3, 1, 1)
    mask = jnp.asarray([[[False, True, True], [False, False, False]]])
    got = quick_jit(attend, static_argnums=4)(q, k, v, mask, 1.0)[0, :, 0, 0].astype(jnp.float32)
    assert got[0] == 2.0
    assert np.isfinite(got[1])  # padding attends to nothing, but must not poison gradients


def mask_slowly(valid, mask_ar):
    """The rule as it is told: who shares my block, or comes in an earlier one, and is valid."""
    b, t = valid.shape
    out = np.zeros((b, t, t), bool)
    for row in range(b):
        for i in range(t):
            for j in range(t):
                blocks_between = mask_ar[row, i + 1 : j + 1].sum() if j > i else 0
                out[row, i, j] = valid[row, i] and valid[row, j] and blocks_between == 0
    return out


def test_mask_by_brute_force():
    rng = np.random.default_rng(0)
    valid = rng.random((40, 9)) < 0.8
    mask_ar = (rng.random((40, 9)) < 0.4).astype(np.int32)
    got = make_attn_mask(jnp.asarray(valid), jnp.asarray(mask_ar))
    assert got.dtype == bool
    np.testing.assert_array_equal(got, mask_slowly(valid, mask_ar))


@pytest.mark.parametrize(
    ("mask_ar", "rows"),
    [
        ([0, 0, 0, 1, 1], ["11100", "11100", "11100", "11110", "11111"]),
        ([1, 1, 1], ["100", "110", "111"]),
        ([0, 0, 1, 0, 1, 0], ["110000", "110000", "111100", "111100", "111111", "111111"]),
    ],
)
def test_mask_examples(mask_ar, rows):
    got = make_attn_mask(jnp.ones((1, len(mask_ar)), bool), jnp.asarray([mask_ar]))
    assert ["".join(str(int(x)) for x in row) for row in np.asarray(got[0])] == rows


def test_mask_golden():
    with np.load(GOLDEN / "forward.npz") as f:
        got = make_attn_mask(jnp.asarray(f["mam_input_mask"]), jnp.asarray(f["mam_mask_ar"]))
        np.testing.assert_array_equal(got, f["mam_out"])


def test_gradients_agree_between_paths():
    """The float16 path computes the same function as the library's, so its gradient is alike."""
    rng = np.random.default_rng(3)
    args = [jnp.asarray(rng.normal(size=(1, 4, 2, 4)), jnp.float32) for _ in range(3)]
    mask = jnp.asarray(np.tril(np.ones((1, 4, 4), bool)))

    def total(*args):
        return jnp.sum(jnp.sin(attend(*args, mask).astype(jnp.float32)))

    want = quick_jit(jax.grad(total, (0, 1, 2)))(*args)
    got = quick_jit(jax.grad(total, (0, 1, 2)))(*(x.astype(jnp.float16) for x in args))
    for w, g in zip(want, got, strict=True):
        assert g.dtype == jnp.float16
        np.testing.assert_allclose(np.asarray(g, np.float32), w, atol=5e-3)
