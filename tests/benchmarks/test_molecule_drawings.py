"""Drawings of molecules by Indigo, where it is installed."""

import io

import numpy as np
import pytest
from PIL import Image

from pgjax.benchmarks import molecule_drawings
from pgjax.benchmarks.molecule_drawings import draw_molecule
from pgjax.errors import DataError, UserError

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_styles():
    pytest.importorskip("indigo")
    drawn = [draw_molecule(ASPIRIN, str(i)) for i in range(8)]
    assert len(set(drawn)) == 8 and drawn[3] == draw_molecule(ASPIRIN, "3")
    for data in drawn:
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        assert pixels.shape[2] == 3 and min(pixels.shape[:2]) > 20
        assert 0.5 < (pixels > 200).mean() < 0.99  # dark lines on white
    with pytest.raises(DataError, match="Indigo cannot draw 'C1CC'"):
        draw_molecule("C1CC", "0")


def test_where_indigo_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "indigo", None)
    molecule_drawings._tools.cache_clear()
    with pytest.raises(UserError, match="need Indigo: pip install"):
        draw_molecule(ASPIRIN, "0")
