"""Checks of Hugging Face folders, half-precision files, and other resolutions."""

import pathlib
import tempfile
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from golden_checks.common import Check, Golden
from pgjax import trees
from pgjax.checkpoints.fitting import resample_positions
from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.huggingface import open_folder
from pgjax.checkpoints.npz import open_npz, read_npz, write_npz
from pgjax.conformance.differences import EXACT, LOGITS, diff


def folders(g: Golden) -> Iterator[Check]:
    """Reads the reference's folder, writes one that reads back bit by bit, and compares logits."""
    tensors, spec = open_folder(g.folder / "hf")
    yield "read", _bits(tensors, open_npz(g.folder / "params.npz")), EXACT
    for name in ("params.npz", "params.bf16.npz"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / "hf"
            write_folder(folder, open_npz(g.folder / name), spec)
            back = pathlib.Path(temporary) / "back.npz"
            write_npz(back, open_folder(folder)[0])
            yield f"{name} there and back", _bits(open_npz(back), open_npz(g.folder / name)), EXACT
    f, hf = g.load("forward.npz"), g.load("hf_logits.npz")
    image, text, mask_ar = (jnp.asarray(f[k]) for k in ("image", "text", "mask_ar"))
    hidden = g.run(None, image[:2], text[:2], mask_ar[:2])
    want = hf["hf/nomask/logits_ex01"][..., : g.model.llm_config.vocab_size]
    yield "logits of transformers", diff(g.run("logits", hidden), want), LOGITS
    tokens = g.model.apply(g.variables, image, method="embed_image")
    # transformers may divide image tokens by the root of the width, by which it multiplies later.
    scale = g.model.llm_config.width**0.5
    got = [diff(tokens, hf["hf/image_hidden_states"] * s) for s in (1.0, scale)]
    yield "image tokens of transformers", min(got), LOGITS


def half(g: Golden) -> Iterator[Check]:
    """Compares logits of the bfloat16 file in float32, and resampled position embeddings."""
    f = g.load("forward.npz")
    flat = {
        k: jnp.asarray(x, jnp.float32) for k, x in read_npz(g.folder / "params.bf16.npz").items()
    }
    variables = {"params": trees.unflatten(flat)}
    image, text, mask_ar = (jnp.asarray(f[k][:1]) for k in ("image", "text", "mask_ar"))
    hidden = g.model.apply(variables, image, text, mask_ar)
    got = g.model.apply(variables, hidden, method="logits")[0, :5]
    yield "bfloat16 file, logits", diff(got, f["params_bf16/text_logits_ex0_first5"]), LOGITS
    x = np.asarray(g.flat["img/pos_embedding"])
    for key in sorted(k for k in f if k.startswith("posemb_resample_")):
        side = int(key.rpartition("_")[2])
        yield key, diff(resample_positions(x, side), f[key]), 1e-6


def _bits(got, want) -> float:
    """Returns the number of tensors that differ in name, dtype or any bit."""
    wrong = len(got.keys() ^ want.keys())
    for name in got.keys() & want.keys():
        a, b = got[name].read(), want[name].read()
        wrong += (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes())
    return float(wrong)
