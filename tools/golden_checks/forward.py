"""Checks of the forward pass."""

from collections.abc import Iterator

import jax.numpy as jnp

from golden_checks.common import Check, Golden
from pgjax.conformance.differences import LOGITS, diff


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
