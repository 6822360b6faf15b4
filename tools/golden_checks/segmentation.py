"""Checks of the mask codec and of masks as text."""

import json
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.common import Check, Golden
from pgjax.conformance.differences import EXACT, diff
from pgjax.data.masks import crop_mask, paste_mask
from pgjax.models import vqvae
from pgjax.text.locations import format_boxes, parse_boxes

MASKS = 1e-4
NEAR_TIE = 1e-5  # the relative margin below which two codes count as equal


def segmentation(g: Golden) -> Iterator[Check]:
    """Compares codes, decoded masks, masks as text, and the scores of parsed answers."""
    seg = g.load("seg.npz")
    params = {name: jnp.asarray(x) for name, x in g.load("vae.npz").items()}
    encode, decode = jax.jit(vqvae.encode), jax.jit(vqvae.decode)
    yield (
        "decoded masks",
        diff(decode(params, jnp.asarray(seg["dec/indices"])), seg["dec/masks"]),
        MASKS,
    )
    codes = np.asarray(encode(params, jnp.asarray(seg["enc/masks64"][..., 0])))
    clear = seg["enc/code_rel_margin"] > NEAR_TIE
    yield "codes", float((codes != seg["enc/indices"])[clear].sum()), EXACT

    cases = json.loads(str(seg["m2s/json"]))
    boxes = [seg[f"m2s/bbox/{i}"] for i in range(len(cases))]
    cropped = np.stack([crop_mask(read_mask(seg, i), box) for i, box in enumerate(boxes)])
    codes = np.asarray(encode(params, jnp.asarray(cropped)))
    wrong = 0
    for i, (case, box) in enumerate(zip(cases, boxes, strict=True)):
        want = [int(c) for c in re.findall(r"<seg(\d+)>", case["suffix"])]
        clear = seg["m2s/code_rel_margin"][i] > NEAR_TIE
        wrong += int((codes[i] != want)[clear].sum())
        # Here the reference counts locations in 1023rds.
        text = format_boxes([np.round(box.astype(np.float64) * 1023) / 1024], [""], [want])
        wrong += text != case["suffix"]
    yield "masks as text", float(wrong), EXACT

    worst, wrong = 0.0, 0
    for i, text in enumerate(json.loads(str(seg["eval/pred_strings_json"]))):
        truth = read_mask(seg, i)
        found = [box for box in parse_boxes(text, mend=False) if box.codes][:1]
        iou = 0.0
        for box in found:
            edges = [v * 1024 / 1023 for v in box[:4]]
            y0, x0, y1, x1 = (int(v * s) for v, s in zip(edges, truth.shape * 2, strict=True))
            if y0 == y1 or x0 == x1:
                found = []
                continue
            mask = paste_mask(
                np.asarray(decode(params, jnp.asarray([box.codes])))[0], edges, truth.shape
            )
            iou = (mask & truth).sum() / (mask | truth).sum()
        wrong += (not found) != bool(seg["eval/per_example_invalid"][i])
        worst = max(worst, abs(iou - seg["eval/per_example_iou"][i]))
    yield "parsing", float(wrong), EXACT
    yield "IoU of pasted masks", worst, 1e-9


def read_mask(seg, i: int) -> np.ndarray:
    """Reads mask i of the folder, bool [h, w]."""
    shape = tuple(seg[f"mask_shape/{i}"])
    kind = "m2s" if f"m2s/mask/{i}:packed" in seg else "eval"
    packed = seg[f"{kind}/mask/{i}:packed"]
    return np.unpackbits(packed)[: shape[0] * shape[1]].reshape(shape).astype(bool)
