"""Attention and its masks against loops in numpy."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from tiny_model import make, quick_jit

from pgjax.errors import UserError
from pgjax.models import attention, attention_blocks, attention_kernels
from pgjax.models.attention import Shape, attend, check_implementation, choose, chosen
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


def gradients(function, args, weight):
    def total(*args):
        return jnp.sum(weight * function(*args).astype(jnp.float32))

    return quick_jit(jax.grad(total, (0, 1, 2)))(*args)


def gradients_by_hand(q, k, v, mask, weight, scale, softcap):
    """Of Σ weight·attention, in float64, one query and head at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    dq, dk, dv = (np.zeros_like(x) for x in (q, k, v))
    for i, j, head in np.ndindex(*q.shape[:3]):
        kv = head // (q.shape[2] // k.shape[2])
        seen = np.flatnonzero(mask[i, j])
        raw = k[i, seen, kv] @ q[i, j, head] * scale
        logits = softcap * np.tanh(raw / softcap) if softcap else raw
        p = np.exp(logits - logits.max())
        p /= p.sum()
        dp = v[i, seen, kv] @ weight[i, j, head]
        ds = p * (dp - p @ dp)
        ds *= (1 - np.tanh(raw / softcap) ** 2) * scale if softcap else scale
        dq[i, j, head] = ds @ k[i, seen, kv]
        dk[i, seen, kv] += np.outer(ds, q[i, j, head])
        dv[i, seen, kv] += np.outer(p, weight[i, j, head])
    return dq, dk, dv


@pytest.mark.parametrize("block_bytes", [2**26, 1])  # all queries at once; as few as possible
@pytest.mark.parametrize(("softcap", "masked"), [(0.0, True), (1.5, True), (0.0, False)])
@pytest.mark.parametrize("name", ["xla", "blocks"])
def test_values_and_gradients_by_hand(name, softcap, masked, block_bytes, monkeypatch):
    monkeypatch.setattr(attention_blocks, "_BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    t = 150  # three blocks of 64 queries at the least, the last one filled up
    q = jnp.asarray(rng.normal(size=(2, t, 4, 8)), jnp.float32)
    k, v = (jnp.asarray(rng.normal(size=(2, t, 2, 8)), jnp.float32) for _ in range(2))
    lengths = np.array([[40], [90]])  # prefixes; what follows is causal
    columns = np.arange(t)
    mask = columns < np.maximum(lengths, columns + 1)[:, :, None]
    weight = rng.normal(size=q.shape).astype(np.float32)
    scale = 0.4

    def run(q, k, v):
        seen = jnp.asarray(mask) if masked else None
        return attend(q, k, v, seen, scale, softcap, implementation=name)

    seen = mask if masked else np.ones_like(mask)
    if not softcap:
        want = attend_slowly(q, k, v, seen, scale)
        np.testing.assert_allclose(quick_jit(run)(q, k, v), want, atol=1e-5)
    want = gradients_by_hand(q, k, v, seen, weight.astype(np.float64), scale, softcap)
    for got, w in zip(gradients(run, (q, k, v), weight), want, strict=True):
        np.testing.assert_allclose(got, w, atol=2e-5)


def test_blocks_of_half_precision():
    """bfloat16 is as near to float32 as its rounding allows, gradients summed in float32."""
    rng = np.random.default_rng(3)
    args = [jnp.asarray(rng.normal(size=(1, 300, 2, 16)), jnp.float32) for _ in range(3)]
    weight = rng.normal(size=args[0].shape).astype(np.float32)
    for dtype, tolerance in ((jnp.bfloat16, 3e-2), (jnp.float16, 4e-3)):
        half = [x.astype(dtype) for x in args]
        run = functools.partial(attend, implementation="blocks")
        for want, got in zip(
            gradients(attend, args, weight), gradients(run, half, weight), strict=True
        ):
            assert got.dtype == dtype
            error = np.abs(np.asarray(got, np.float32) - want)
            assert error.max() < tolerance * np.abs(want).max()


def test_blocks_keep_no_matrix_of_logits():
    t = 8192
    x = jax.ShapeDtypeStruct((1, t, 2, 8), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, t, t), bool)

    def total(name, q, k, v, mask):
        return jnp.sum(attend(q, k, v, mask, implementation=name))

    def largest(name):
        step = jax.jit(jax.grad(functools.partial(total, name), (0, 1, 2)))
        text = step.lower(x, x, x, mask).as_text()
        sizes = re.findall(r"tensor<((?:\d+x)+)f32>", text)
        return max(np.prod([int(n) for n in size.split("x")[:-1]]) for size in sizes)

    assert largest("xla") == 2 * t * t
    assert largest("auto") <= 2**24  # 64 MiB of one block


@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_the_kernel_for_tpus_interpreted(softcap):
    """On a CPU the splash kernel runs in interpret mode; heads of 24 are filled up to 128."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, 256, 2, 24)), jnp.float32) for _ in range(3))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        got = attention_kernels.splash(q, k, v, None, 0.3, softcap, interpret=True)
    want = attend(q, k, v, None, 0.3, softcap, implementation="xla")
    np.testing.assert_allclose(got, want, atol=1e-5)


class Gpu:
    platform = "gpu"

    def __init__(self, compute_capability):
        self.compute_capability = compute_capability


class Tpu:
    platform = "tpu"


TOWER = Shape(256, 256, 72, "bfloat16", masked=False, softcap=False)
LONG_TOWER = dataclasses.replace(TOWER, queries=4096, keys=4096)
DECODER = Shape(384, 384, 256, "bfloat16", masked=True, softcap=False)
LONG_DECODER = dataclasses.replace(DECODER, queries=4224, keys=4224)
TOKEN = dataclasses.replace(LONG_DECODER, queries=1)


@pytest.mark.parametrize(
    ("device", "tokamax", "choices"),
    [
        (Gpu("9.0"), True, ("cudnn", "cudnn", "xla", "tokamax", "xla")),
        (Gpu("8.0"), False, ("cudnn", "cudnn", "xla", "blocks", "xla")),
        (Gpu("7.5"), True, ("xla", "blocks", "xla", "blocks", "xla")),
        (Tpu(), False, ("xla", "splash", "xla", "blocks", "xla")),
        (jax.devices()[0], True, ("xla", "blocks", "xla", "blocks", "xla")),
    ],
)
def test_choices(device, tokamax, choices, monkeypatch):
    monkeypatch.setattr(attention, "device", lambda: device)
    monkeypatch.setattr(attention_kernels, "has_tokamax", lambda: tokamax)
    shapes = (TOWER, LONG_TOWER, DECODER, LONG_DECODER, TOKEN)
    assert tuple(map(choose, shapes)) == choices
    # What does not go into blocks of 512 keys is not for the kernel of a TPU: 672 px.
    odd = dataclasses.replace(LONG_TOWER, queries=2304, keys=2304)
    assert choose(odd) == ("blocks" if choices[1] == "splash" else choices[1])
    # Float32 has no kernel of its own anywhere.
    assert choose(dataclasses.replace(LONG_TOWER, dtype="float32")) == "blocks"


def test_what_takes_no_mask_is_for_the_image_tower():
    assert chosen("cudnn", TOWER) == "cudnn" and chosen("splash", LONG_TOWER) == "splash"
    assert chosen("cudnn", DECODER) == choose(DECODER)
    assert chosen("blocks", DECODER) == "blocks" and chosen("blocks", TOKEN) == "xla"


def test_mistakes(monkeypatch):
    with pytest.raises(
        UserError, match=r"model.attention 'flash' is unknown; choose from \['auto'"
    ):
        check_implementation("flash")
    monkeypatch.setattr(attention_kernels, "has_tokamax", lambda: False)
    with pytest.raises(UserError, match="needs the package tokamax"):
        check_implementation("tokamax")
    assert make(attention="blocks").attention == "blocks"
