"""The mask codec against the reference's arrays: codes, masks, strings and scores."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN

from pgjax.data.masks import crop_mask, paste_mask
from pgjax.models import vqvae
from pgjax.text.locations import parse_boxes


@pytest.fixture(scope="module")
def params():
    with np.load(GOLDEN / "vae.npz") as arrays:
        return {name: jnp.asarray(x) for name, x in arrays.items()}


@pytest.fixture(scope="module")
def seg():
    with np.load(GOLDEN / "seg.npz") as arrays:
        return dict(arrays)


def mask_of(seg, i):
    shape = tuple(seg[f"mask_shape/{i}"])
    packed = seg[f"{'m2s' if i < 12 else 'eval'}/mask/{i}:packed"]
    return np.unpackbits(packed)[: shape[0] * shape[1]].reshape(shape).astype(bool)


def has_pixels(box, size):
    y0, x0, y1, x1 = (int(v * 1024 / 1023 * s) for v, s in zip(box[:4], size * 2, strict=True))
    return y1 > y0 and x1 > x0


def test_names_and_shapes(params):
    assert {name: x.shape for name, x in params.items()} == vqvae.shapes()


def test_decode(params, seg):
    got = jax.jit(vqvae.decode)(params, jnp.asarray(seg["dec/indices"]))
    np.testing.assert_allclose(got, seg["dec/masks"], atol=1e-4)


def test_encode(params, seg):
    masks = jnp.asarray(seg["enc/masks64"][..., 0])
    got = jax.jit(vqvae.encode)(params, masks)
    clear = seg["enc/code_rel_margin"] > 1e-5
    np.testing.assert_array_equal(np.asarray(got)[clear], seg["enc/indices"][clear])
    assert clear.mean() > 0.99
    out = jax.jit(vqvae.encoder)(params, masks[:2])
    np.testing.assert_allclose(out, seg["enc/encoder_out_first2"], atol=1e-4)


def test_nearest_is_the_nearest():
    rng = np.random.default_rng(0)
    codebook, x = rng.normal(size=(7, 3)), rng.normal(size=(5, 2, 3))
    got = vqvae.nearest(jnp.asarray(codebook, jnp.float32), jnp.asarray(x, jnp.float32))
    want = np.linalg.norm(x[:, :, None] - codebook, axis=-1).argmin(-1)
    np.testing.assert_array_equal(got, want)


def test_cropped_masks_have_the_codes_of_the_reference(params, seg):
    cases = json.loads(str(seg["m2s/json"]))
    masks = [crop_mask(mask_of(seg, i), seg[f"m2s/bbox/{i}"]) for i in range(len(cases))]
    got = np.asarray(jax.jit(vqvae.encode)(params, jnp.asarray(np.stack(masks))))
    want = [[int(c) for c in re.findall(r"<seg(\d+)>", case["suffix"])] for case in cases]
    clear = seg["m2s/code_rel_margin"] > 1e-5
    np.testing.assert_array_equal(got[clear], np.array(want)[clear])


def test_pasted_masks_have_the_iou_of_the_reference(params, seg):
    """Its evaluator reads locations as 1023rds, and calls a box without a whole pixel invalid."""
    texts = json.loads(str(seg["eval/pred_strings_json"]))
    decode = jax.jit(vqvae.decode)
    for i, text in enumerate(texts):
        truth = mask_of(seg, i)
        masks = [box for box in parse_boxes(text, mend=False) if box.codes][:1]
        masks = [box for box in masks if has_pixels(box, truth.shape)]
        assert (not masks) == bool(seg["eval/per_example_invalid"][i]), text
        for box in masks:
            decoded = np.asarray(decode(params, jnp.asarray([box.codes], jnp.int32)))[0]
            edges = [v * 1024 / 1023 for v in box[:4]]
            got = paste_mask(decoded, edges, truth.shape)
            iou = (got & truth).sum() / (got | truth).sum()
            assert iou == pytest.approx(seg["eval/per_example_iou"][i], abs=1e-9)
