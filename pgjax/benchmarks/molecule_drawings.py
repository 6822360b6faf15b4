"""Draws molecules with Indigo, each in a style of its own, as training data for reading them.

The styles vary what MolScribe varies (Qian et al., arXiv:2205.14311): lines, labels, hydrogens,
bonds of rings, colours, and the picture itself. Groups of atoms are not abbreviated.
"""

import functools
import io
import random
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from pgjax.errors import DataError, UserError

_WHITE = (255, 255, 255)


@functools.lru_cache(maxsize=1)
def _tools() -> tuple[Any, Any]:
    try:
        from indigo import Indigo  # pyright: ignore[reportMissingImports]
        from indigo.renderer import IndigoRenderer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            "Drawings of molecules need Indigo: pip install 'paligemma-jax[molecules]'."
        ) from None
    indigo = Indigo()
    return indigo, IndigoRenderer(indigo)


def draw_molecule(smiles: str, seed: str) -> bytes:
    """Draws a molecule.

    Args:
      smiles: its SMILES.
      seed: what its style depends on; the same gives the same picture.

    Returns:
      A PNG, dark on white, mostly some hundred pixels wide.

    Raises:
      DataError: Indigo cannot read or draw it.
      UserError: Indigo is not installed.
    """
    indigo, renderer = _tools()
    if not smiles.strip():
        raise DataError("there is no SMILES to draw")
    rng = random.Random(seed)
    thickness = rng.uniform(0.5, 2)
    style = {
        "render-output-format": "png",
        "render-background-color": "1,1,1",
        "render-relative-thickness": thickness,
        "render-bond-line-width": rng.uniform(1, 4 - thickness),
        "render-bond-length": rng.choice([20, 30, 40, 60]),
        "render-label-mode": rng.choice(["hetero", "terminal-hetero"]),
        "render-implicit-hydrogens-visible": rng.random() < 0.5,
        "render-stereo-style": "old" if rng.random() < 0.1 else "none",
        "render-atom-ids-visible": rng.random() < 0.1,
        "render-coloring": rng.random() < 0.2,
    }
    try:
        indigo.resetOptions()
        for name, value in style.items():
            indigo.setOption(name, value)
        molecule = indigo.loadMolecule(smiles)
        if rng.random() < 0.8:
            molecule.dearomatize()
        else:
            molecule.aromatize()
        molecule.layout()
        drawn = bytes(renderer.renderToBuffer(molecule))
    except Exception as e:  # Indigo has errors of its own
        raise DataError(f"Indigo cannot draw {smiles!r:.100} ({' '.join(str(e).split())})") from e
    picture = _worn(Image.open(io.BytesIO(drawn)).convert("RGB"), rng)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _worn(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Turns, blurs, coarsens or speckles a picture, each in some cases."""
    if rng.random() < 0.5:
        bicubic = Image.Resampling.BICUBIC
        picture = picture.rotate(rng.uniform(-90, 90), bicubic, expand=True, fillcolor=_WHITE)
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1)))
    if rng.random() < 0.2:
        scale = rng.uniform(0.4, 0.8)
        small = picture.resize([max(1, round(side * scale)) for side in picture.size])
        picture = small.resize(picture.size)
    if rng.random() < 0.2:
        pixels = np.asarray(picture)
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 12, pixels.shape)
        picture = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
    return picture
