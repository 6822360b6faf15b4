"""The whole model: golden arrays, ragged prompts with a cache, several images, precision."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from tiny_model import RES, VOCAB, batch, make, params, quick_jit

from pgjax import trees
from pgjax.errors import UserError
from pgjax.models.paligemma import make_model, num_patches

LENGTHS = (1, 6, 1, 6)
WIDTH = 7
STEPS = 4


@functools.cache
def compiled(model, method):
    return quick_jit(lambda p, *args: model.apply({"params": p}, *args, method=method))


def apply(model, *args, method=None):
    return compiled(model, method)(params(), *map(jnp.asarray, args))


@functools.cache
def prefill_and_extend(model, cache_dtype):
    """Compiled `prefill` and `extend`."""
    prefill = functools.partial(
        model.apply, method="prefill", max_new_tokens=STEPS, cache_dtype=jnp.dtype(cache_dtype)
    )
    extend = functools.partial(model.apply, method="extend")
    return (
        quick_jit(lambda *args: prefill({"params": params()}, *args)),
        quick_jit(lambda *args: extend({"params": params()}, *args)),
    )


def decode(model, image, text, mask_ar, valid, appended, cache_dtype="float32"):
    """Logits [B,STEPS+1,V] after the prompt and after each appended token."""
    prefill, extend = prefill_and_extend(model, cache_dtype)
    logits, cache = prefill(*map(jnp.asarray, (image, text, mask_ar, valid)))
    out = [logits]
    for token in appended.T:
        logits, cache = extend(jnp.asarray(token), cache)
        out.append(logits)
    return np.stack(out, axis=1)


def prompts():
    image, text, valid = batch(LENGTHS, WIDTH)
    mask_ar = np.zeros_like(text)
    mask_ar[3, 2:] = 1  # one prompt goes on causally, as a started answer does
    appended = np.random.default_rng(9).integers(3, VOCAB, (len(LENGTHS), STEPS)).astype(np.int32)
    return image, text, mask_ar, valid, appended


def full_passes(model, image, text, mask_ar, appended):
    """Each row alone, unpadded, in one pass without a cache: the last STEPS+1 logits."""
    rows = []
    for i, n in enumerate(LENGTHS):
        row = np.concatenate([text[i, :n], appended[i]])[None]
        ar = np.concatenate([mask_ar[i, :n], np.ones(STEPS, np.int32)])[None]
        hidden = apply(model, image[i : i + 1], row, ar)
        table = np.asarray(params()["llm"]["embedder"]["input_embedding"])
        rows.append(np.asarray(hidden, np.float32)[0, n - 1 :] @ table.T)
    return np.stack(rows)


def test_ragged_prefill_and_extend_equal_the_full_pass_of_each_row():
    image, text, mask_ar, valid, appended = prompts()
    want = full_passes(make(), image, text, mask_ar, appended)
    got = decode(make(), image, text, mask_ar, valid, appended)
    assert np.ptp(want) > 1  # the logits say something
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def test_padding_has_no_influence():
    image, text, mask_ar, valid, appended = prompts()
    want = decode(make(), image, text, mask_ar, valid, appended)
    other = np.where(valid, text, 7)
    other_ar = np.where(valid, mask_ar, 1)
    got = decode(make(), image, other, other_ar, valid, appended)
    np.testing.assert_array_equal(got, want)
    changed = decode(make(), image, np.where(valid, 7, text), mask_ar, valid, appended)
    assert np.abs(changed - want).max() > 1e-2


def test_padding_has_no_influence_on_a_training_row():
    """Without `mask_input`, causal text keeps later padding out."""
    image, text, valid = batch(LENGTHS, WIDTH)
    mask_ar = np.ones_like(text)
    want = np.asarray(apply(make(), image, text, mask_ar))
    got = np.asarray(apply(make(), image, np.where(valid, text, 5), mask_ar))
    masked = np.asarray(apply(make(), image, np.where(valid, text, 5), mask_ar, valid))
    np.testing.assert_array_equal(got[valid], want[valid])
    np.testing.assert_allclose(masked[valid], want[valid], atol=1e-6)


def test_rows_do_not_see_each_other():
    image, text, mask_ar, valid, appended = prompts()
    want = decode(make(), image, text, mask_ar, valid, appended)
    order = [2, 0, 3, 1]
    got = decode(make(), image[order], text[order], mask_ar[order], valid[order], appended[order])
    np.testing.assert_allclose(got, want[order], atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_half_precision_compute(dtype, tolerance):
    image, text, mask_ar, valid, appended = prompts()
    want = decode(make(), image, text, mask_ar, valid, appended)
    model = make(img_dtype=dtype, llm_dtype=dtype)
    got = decode(model, image, text, mask_ar, valid, appended)
    assert got.dtype == np.float32
    worst = np.abs(got - want).max() / np.ptp(want)
    assert 1e-5 < worst < tolerance


def test_bfloat16_cache():
    image, text, mask_ar, valid, appended = prompts()
    want = decode(make(), image, text, mask_ar, valid, appended)
    got = decode(make(), image, text, mask_ar, valid, appended, "bfloat16")
    assert 1e-5 < np.abs(got - want).max() / np.ptp(want) < 0.03


@pytest.mark.parametrize("cache_dtype", ["float32", "bfloat16"])
def test_cache_is_as_described(cache_dtype):
    image, text, mask_ar, valid, _ = prompts()
    prefill, extend = prefill_and_extend(make(), cache_dtype)
    _, cache = prefill(*map(jnp.asarray, (image, text, mask_ar, valid)))
    num_img = (RES // 4) ** 2
    for x in cache.layers.values():
        assert x.shape == (2, len(LENGTHS), num_img + WIDTH + STEPS, 2, 8)
        assert x.dtype == cache_dtype
    np.testing.assert_array_equal(cache.length, num_img + np.array(LENGTHS))
    assert int(cache.column) == num_img + WIDTH
    _, cache = extend(jnp.zeros(len(LENGTHS), jnp.int32), cache)
    np.testing.assert_array_equal(cache.length, num_img + np.array(LENGTHS) + 1)
    seen = np.asarray(cache.valid)
    np.testing.assert_array_equal(seen[:, num_img : num_img + WIDTH], valid)
    assert seen[:, num_img + WIDTH].all() and not seen[:, num_img + WIDTH + 1 :].any()


def test_several_images_concatenate_their_tokens():
    rng = np.random.default_rng(0)
    frames = rng.uniform(-1, 1, (2, 3, RES, RES, 3)).astype(np.float32)
    got = apply(make(), frames, method="embed_image")
    assert got.shape == (2, 12, 16)
    each = [apply(make(), frames[:, i], method="embed_image") for i in range(3)]
    np.testing.assert_allclose(got, np.concatenate(each, axis=1), atol=1e-6)


def test_several_images_enter_the_decoder():
    frames = np.random.default_rng(0).uniform(-1, 1, (2, 2, RES, RES, 3)).astype(np.float32)
    _, text, _ = batch((3, 3), 3)
    got = apply(make(), frames, text, np.zeros_like(text))
    assert got.shape == (2, 3, 16)
    swapped = apply(make(), frames[:, ::-1], text, np.zeros_like(text))
    assert np.abs(np.asarray(got) - np.asarray(swapped)).max() > 1e-4  # their order counts


@pytest.fixture(scope="module")
def golden():
    spec = {
        "res": 56,
        "img": {"width": 48, "depth": 2, "mlp_dim": 104, "num_heads": 4},
        "llm": {
            "width": 64, "depth": 3, "mlp_dim": 136, "num_heads": 4, "num_kv_heads": 1,
            "head_dim": 24, "vocab_size": 1664,
        },
    }  # fmt: skip
    with np.load(GOLDEN / "forward.npz") as f, np.load(GOLDEN / "params.npz") as p:
        flat = {name.removeprefix("params/"): jnp.asarray(x) for name, x in p.items()}
        return spec, {"params": trees.unflatten(flat)}, dict(f)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_golden_image_tower(golden, dtype):
    """The reference ran its image tower in each of these compute types."""
    spec, variables, f = golden
    model = make_model({**spec, "img_dtype": dtype})
    got = quick_jit(functools.partial(model.apply, method="embed_image"))(
        variables, jnp.asarray(f["image"])
    )
    assert got.dtype == jnp.float32
    error = np.abs(np.asarray(got) - f["zimg"])
    if dtype == "float32":
        assert error.max() < 5e-5
    else:
        # Two programs round differently; ours must lose as little as the reference does.
        reference = np.abs(f[f"dtype_mm_{dtype}/zimg"] - f["zimg"])
        assert 1e-5 < error.mean() < 1.2 * reference.mean()
        assert error.max() < 2 * reference.max()


def test_golden_logits(golden):
    spec, variables, f = golden
    model = make_model(spec)

    def run(variables, *args):
        return model.apply(variables, model.apply(variables, *args), method="logits")

    got = quick_jit(run)(variables, *(jnp.asarray(f[k]) for k in ("image", "text", "mask_ar")))
    np.testing.assert_allclose(got, f["text_logits"], atol=5e-5)


def test_patches_must_tile_the_image():
    assert num_patches(224, (14, 14)) == 256
    assert num_patches(448, (14, 14)) == 1024
    assert num_patches(896, (14, 14)) == 4096
    with pytest.raises(UserError, match=r"225.*\(14, 14\)"):
        num_patches(225, (14, 14))
    with pytest.raises(UserError, match=r"model.res 10"):
        make(res=10)


def test_unknown_compute_dtype():
    with pytest.raises(UserError, match=r"model.llm_dtype is 'float8'.*bfloat16"):
        make(llm_dtype="float8")
    with pytest.raises(UserError, match=r"model.img_dtype is 'int8'"):
        make(img_dtype="int8")
