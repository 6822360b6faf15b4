"""SMILES: text where RDKit is missing, molecules where it is there."""

import builtins
import random

import pytest

from pgjax.metrics import get_metric
from pgjax.metrics import smiles as module

metric = get_metric("smiles")


def without_rdkit(monkeypatch):
    real = builtins.__import__

    def wanting(name, *args, **kwargs):
        if name.partition(".")[0] == "rdkit":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    module._rdkit.cache_clear()
    monkeypatch.setattr(builtins, "__import__", wanting)
    monkeypatch.setattr(module, "note", (told := []).append)
    return told


def test_texts_where_rdkit_is_missing(monkeypatch):
    told = without_rdkit(monkeypatch)
    try:
        assert metric(" CCO", {"answers": ["CCO"]}) == {"acc": 1, "text": 1, "canonical": 0}
        assert metric("OCC", {"suffix": "CCO"}) == {"acc": 0, "text": 0, "canonical": 0}
        assert metric("OCC", {"answers": []}) == {}
        assert len(told) == 1 and "RDKit is not installed" in told[0]
    finally:
        module._rdkit.cache_clear()


def test_molecules():
    pytest.importorskip("rdkit")
    same = metric("OCC", {"answers": ["CCO"]})
    assert same == {
        "acc": 1, "text": 0, "canonical": 1, "valid": 1, "graph": 1, "tanimoto": 1,
    }  # fmt: skip
    turned = metric("N[C@@H](C)C(=O)O", {"answers": ["N[C@H](C)C(=O)O"]})
    assert (turned["acc"], turned["graph"], turned["chiral"]) == (0, 1, 0)
    assert metric("C/C=C/C", {"answers": ["C/C=C\\C"]})["acc"] == 1
    assert metric("[R1]CC", {"answers": ["CC[R1]"]})["acc"] == 1
    assert metric("[Ph]CC", {"answers": ["CC*"]})["acc"] == 1
    broken = metric("C1CC(", {"answers": ["C1CCC1"]})
    assert (broken["acc"], broken["valid"], broken["tanimoto"]) == (0, 0, 0)
    assert metric("", {"answers": [""]})["acc"] == 0
    assert 0 < metric("CCCO", {"answers": ["CCO"]})["tanimoto"] < 1


def test_a_thousand_ways_to_write_molecules():
    """A molecule written from any of its atoms is the same one; another is not."""
    chem = pytest.importorskip("rdkit.Chem")
    rng = random.Random(0)
    known = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "N[C@@H](C)C(=O)O",
             "C[C@H]1CC[C@@H](O)CC1", "c1ccc2[nH]ccc2c1", "[O-][N+](=O)c1ccc(Cl)cc1"]  # fmt: skip
    for _ in range(1000):
        smiles, other = rng.choice(known), rng.choice(known)
        molecule = chem.MolFromSmiles(smiles)
        order = rng.sample(range(molecule.GetNumAtoms()), molecule.GetNumAtoms())
        written = chem.MolToSmiles(chem.RenumberAtoms(molecule, order), canonical=False)
        scores = metric(written, {"answers": [other]})
        assert scores["acc"] == scores["graph"] == float(smiles == other)
        assert (scores["tanimoto"] == 1) == (smiles == other)
