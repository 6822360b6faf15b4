"""What Gemma 2 adds, against numpy in float64, and its published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gemma import feed_forward, gelu_tanh, inputs, rms_norm, rope_by_complex_numbers
from tiny_model import batch, make, quick_jit

from pgjax import trees
from pgjax.models.gemma import Block
from pgjax.models.loss import make_loss
from pgjax.models.paligemma import abstract_params, make_model

GEMMA2 = {"post_norms": True, "attn_softcap": 1.5, "final_softcap": 2.0, "query_scale": 0.8}


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.tree.map(lambda x: x.unbox().shape, abstract_params(model), is_leaf=_boxed)
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    draw = lambda s: jnp.asarray(rng.normal(size=s) * 0.5, jnp.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=is_shape)


def _boxed(x):
    return hasattr(x, "unbox")


def attention(x, p, positions, mask):
    q = np.einsum("BTD,NDH->BTNH", x, p["q_einsum"]["w"])
    k, v = (np.einsum("BTD,KDH->BTKH", x, w) for w in p["kv_einsum"]["w"])
    q, k = (rope_by_complex_numbers(y, positions) for y in (q, k))
    out = np.zeros_like(x)
    for head in range(q.shape[2]):
        group = head // (q.shape[2] // k.shape[2])
        logits = 0.8 * np.einsum("BTH,BSH->BTS", q[:, :, head], k[:, :, group])
        logits = np.where(mask, 1.5 * np.tanh(logits / 1.5), -np.inf)
        weights = np.exp(logits)
        weights /= weights.sum(axis=-1, keepdims=True)
        out += weights @ v[:, :, group] @ p["attn_vec_einsum"]["w"][head]
    return out


def test_block():
    model = make(llm=GEMMA2)
    p = jax.tree.map(lambda w: w[0], randomized(model)["llm"]["layers"])
    p64 = jax.tree.map(lambda w: np.asarray(w, np.float64), p)
    x, positions, mask = inputs()
    got, _ = quick_jit(
        lambda p, x, *args: Block(model.llm_config).apply({"params": p}, x, None, *args, None, True)
    )(p, jnp.asarray(x, jnp.float32), jnp.asarray(positions), jnp.asarray(mask))
    y = attention(rms_norm(x, p64["pre_attention_norm"]["scale"]), p64["attn"], positions, mask)
    want = x + rms_norm(y, p64["post_attention_norm"]["scale"])
    y = feed_forward(rms_norm(want, p64["pre_ffw_norm"]["scale"]), p64["mlp"])
    want = want + rms_norm(y, p64["post_ffw_norm"]["scale"])
    assert gelu_tanh(1.0) == pytest.approx(0.8412, abs=1e-4)
    np.testing.assert_allclose(got, want, atol=5e-5)


def test_final_logits_are_capped_and_the_loss_differentiates_them():
    model = make(llm=GEMMA2)
    params = randomized(model)
    image, text, _ = batch([6, 6], 6)
    mask_ar = np.int32([[0, 0, 0, 1, 1, 1]] * 2)
    arrays = {"image": image, "text": text, "mask_ar": mask_ar, "mask_loss": mask_ar}
    arrays = jax.tree.map(jnp.asarray, arrays)

    def from_all_logits(flat):
        variables = {"params": trees.unflatten(flat)}
        hidden = model.apply(variables, arrays["image"], arrays["text"][:, :-1], mask_ar[:, :-1])
        table = variables["params"]["llm"]["embedder"]["input_embedding"]
        logits = 2.0 * jnp.tanh(jnp.einsum("BTD,VD->BTV", hidden, table) / 2.0)
        capped = model.apply(variables, hidden, method="logits")
        logp = jax.nn.log_softmax(logits)
        picked = jnp.take_along_axis(logp, arrays["text"][:, 1:, None], axis=-1)[..., 0]
        return -jnp.mean(picked[:, 2:]), (logits, capped)

    flat = trees.flatten(params)
    (want, (logits, capped)), want_grads = quick_jit(
        jax.value_and_grad(from_all_logits, has_aux=True)
    )(flat)
    np.testing.assert_allclose(capped, logits, atol=1e-6)
    assert np.abs(logits).max() <= 2.0
    loss = make_loss(model, label_smoothing=0.0, chunk=2)
    (got, _), grads = quick_jit(
        jax.value_and_grad(lambda f: loss(f, {}, arrays, jnp.full(2, 0.5), None), has_aux=True)
    )(flat)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, want_grads[name], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("variant", "decoder"),
    [("gemma2_2b", 2_614_341_888), ("gemma2_9b", 9_241_705_984), ("gemma2_27b", 27_227_128_320)],
)
def test_published_sizes(variant, decoder):
    """Parameters of the released decoders, whose vocabulary is 256,000 without the new tokens."""
    spec = {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": variant}}
    model = make_model(spec)
    flat = trees.flatten(abstract_params(model)["llm"])
    total = sum(x.unbox().size for x in flat.values())
    assert total - 1152 * model.llm_config.width == decoder
    assert model.llm_config.query_scale in (None, 144**-0.5)
