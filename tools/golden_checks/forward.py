"""Checks of the forward pass and of attention masks."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from golden_checks.common import EXACT, LOGITS, Check, Golden, diff
from pgjax.models.paligemma import make_attn_mask


def forward(g: Golden) -> Iterator[Check]:
    """Compares the image encoder, text embeddings and logits."""
    f = g.load("forward.npz")
    image, text, mask_ar = (jnp.asarray(f[k]) for k in ("image", "text", "mask_ar"))
    tokens, encoded = g.model.apply(g.variables, image, method=lambda m, x: m.img(x))
    yield "image encoder", diff(encoded, f["img_encoded"]), LOGITS
    yield "image tokens", diff(tokens, f["zimg"]), LOGITS
    yield (
        "text embedding",
        diff(g.model.apply(g.variables, text, method=lambda m, t: m.llm.embed(t)), f["ztxt"]),
        LOGITS,
    )
    hidden = g.run(None, image, text, mask_ar)
    yield "text logits", diff(g.run("logits", hidden), f["text_logits"]), LOGITS


def masks(g: Golden) -> Iterator[Check]:
    """Compares block-prefix attention masks."""
    f = g.load("forward.npz")
    got = make_attn_mask(jnp.asarray(f["mam_input_mask"]), jnp.asarray(f["mam_mask_ar"]))
    yield "mask cases", diff(got, f["mam_out"]), EXACT
    num_img = f["zimg"].shape[1]
    for key, valid in (
        ("attn_mask", np.ones_like(f["mask_input"])),
        ("prefill_attn_mask", f["mask_input"]),
    ):
        pad = ((0, 0), (num_img, 0))
        valid = np.pad(valid, pad, constant_values=True)
        got = make_attn_mask(jnp.asarray(valid), jnp.asarray(np.pad(f["mask_ar"], pad)))
        yield key, diff(got, f[key]), EXACT
