"""Whether two SMILES are the same molecule, and how much alike they are.

The rules are those of MolScribe's evaluation (Qian et al., arXiv:2205.14311): SMILES are compared
after RDKit has made them canonical, without the marks / and \\ of double bonds, and with `*` for
what no element is, such as `[Ph]`, but `[1*]` for `[R1]`. What RDKit cannot read stays as it is.
"""

import functools
import re
from typing import Any

from pgjax.errors import note
from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

_BRACKET = re.compile(r"\[([^\]]+)\]")
_RADIUS, _BITS = 2, 2048  # of Morgan fingerprints


@functools.lru_cache(maxsize=1)
def _rdkit() -> Any:
    try:
        from rdkit import Chem, rdBase  # pyright: ignore[reportMissingImports]
    except ImportError:
        note(
            "RDKit is not installed, so that SMILES count as equal only if their texts are: "
            "pip install 'paligemma-jax[molecules]'"
        )
        return None
    rdBase.DisableLog("rdApp.*")  # it tells of every SMILES that it cannot read
    return Chem


@METRICS.register("smiles", main="acc")
def smiles(prediction: str, meta: dict) -> dict[str, float]:
    """Compares the SMILES of an answer with that of the molecule.

    Args:
      prediction: the decoded answer.
      meta: holds the references: `answers` (a match with any of them counts), or `suffix`.

    Returns:
      `acc`, 1.0 if both are the same molecule, and `text`, 1.0 if both are the same text;
      `canonical`, 1.0 if RDKit has compared them, and 0.0 if it is not installed, where `acc` is
      `text`. With RDKit also `valid`, 1.0 if the answer is a molecule; `graph`, as `acc` without
      chirality; `chiral`, `acc` once more for molecules with a chiral centre; and `tanimoto` in
      0..1, the similarity of Morgan fingerprints of radius 2 with 2,048 bits. The dict is empty for
      an example without references.
    """
    prediction, answers = prediction.strip(), references(meta)
    if not answers:
        return {}
    text = float(prediction in answers)
    if not (chem := _rdkit()):
        return {"acc": text, "text": text, "canonical": 0.0}
    found, truths = canonical(prediction), [canonical(answer) for answer in answers]
    graphs = [canonical(answer, chiral=False) for answer in answers]
    scores = {
        "acc": float(bool(found) and found in truths),
        "text": text,
        "canonical": 1.0,
        "valid": float(bool(prediction) and chem.MolFromSmiles(prediction) is not None),
        "graph": float(bool(found) and canonical(prediction, chiral=False) in graphs),
        "tanimoto": max(_tanimoto(chem, prediction, answer) for answer in answers),
    }
    return scores | ({"chiral": scores["acc"]} if any("@" in t for t in truths) else {})


def canonical(text: str, *, chiral: bool = True) -> str:
    """Makes a SMILES canonical by RDKit, or returns it with its groups replaced.

    Args:
      text: the SMILES.
      chiral: whether centres keep their chirality.
    """
    chem = _rdkit()

    def group(match: re.Match[str]) -> str:
        symbol = match[1]
        if symbol[0] == "R" and symbol[1:].isdigit():
            return f"[{symbol[1:]}*]"
        return match[0] if chem.AtomFromSmiles(match[0]) is not None else "*"

    text = _BRACKET.sub(group, text.replace("/", "").replace("\\", ""))
    molecule = chem.MolFromSmiles(text) if text else None
    return text if molecule is None else chem.MolToSmiles(molecule, isomericSmiles=chiral)


def _tanimoto(chem: Any, a: str, b: str) -> float:
    from rdkit import DataStructs  # pyright: ignore[reportMissingImports]
    from rdkit.Chem import rdFingerprintGenerator  # pyright: ignore[reportMissingImports]

    molecules = chem.MolFromSmiles(a), chem.MolFromSmiles(b)
    if not a or not b or None in molecules:
        return 0.0
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)
    return DataStructs.TanimotoSimilarity(*map(maker.GetFingerprint, molecules))
