"""Checks of image decoding and resizing."""

from collections.abc import Iterator

import numpy as np

from golden_checks.common import GREY, Check, Golden, diff
from pgjax.data.decode import decode_image
from pgjax.data.pipeline import Pipeline

# pgjax's pipeline for each name in the reference.
RESIZES = {
    "bv_resize224": "resize(224)",
    "bv_resize224_aa": "resize(224, antialias=True)",
    "bv_resize_rect_aa": "resize((40, 70), antialias=True)",
    "bv_resize56_vr": "resize(56)|value_range(-1, 1)",
    "bv_resize56_aa_vr": "resize(56, antialias=True)|value_range(-1, 1)",
    "bv_resize56_bicubic_aa": "resize(56, method='bicubic', antialias=True)",
    "bv_resize56_area": "resize(56, method='area')",
    "bv_resize_small32": "resize_small(32)",
    "bv_resize_long48": "resize_long(48)",
    "colab56": "resize(56, antialias=True, rounding='none')|value_range(-1, 1)",
    "hf_tv_bicubic224_u8": "resize(224, 'bicubic', antialias=True, rounding='torchvision')",
    "hf_tv_bicubic56_u8": "resize(56, 'bicubic', antialias=True, rounding='torchvision')",
    "hf_pil_bicubic224_u8": "resize(224, 'bicubic', antialias=True, rounding='pillow')",
    "hf_pil_bicubic56_u8": "resize(56, 'bicubic', antialias=True, rounding='pillow')",
}


def images(g: Golden) -> Iterator[Check]:
    """Compares decoded and resized images, in grey levels."""
    arrays = g.load("image.npz")
    worst: dict[str, float] = {}
    for key, want in arrays.items():
        op, _, picture = key.partition("/")
        if op in RESIZES and f"in/{picture}" in arrays:
            got = Pipeline.parse(RESIZES[op])({"image": arrays[f"in/{picture}"]})["image"]
            scale = 127.5 if want.dtype == np.float32 else 1.0
            worst[op] = max(worst.get(op, 0.0), scale * diff(got, want))
        elif op == "dec" and picture.endswith("_png"):
            got = decode_image(arrays[f"enc/{picture}"].tobytes())
            worst["decode png"] = max(worst.get("decode png", 0.0), diff(got, want))
        elif op == "dec_precise":
            got = decode_image(arrays[f"enc/{picture}"].tobytes())
            worst["decode jpeg"] = max(worst.get("decode jpeg", 0.0), diff(got, want))
    for name, difference in worst.items():
        yield name, difference, GREY + 1e-3
