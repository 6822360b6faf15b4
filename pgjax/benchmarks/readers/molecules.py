"""Molecules as they are drawn in papers, and their SMILES, as MolScribe trains and tests."""

import pathlib
from collections.abc import Iterator

from pgjax.benchmarks.molecule_drawings import draw_molecule
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader

_TABLES = {"train": "train_1m.csv", "test": "chemdraw.csv"}


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields the rows of a table; one that names no picture is drawn."""
    for i, row in enumerate(files.csv(_TABLES[split])):
        path = pathlib.PurePath(row.get("file_path") or "")
        yield {
            "image": files["/".join(path.parts[-2:])] if path.name else None,
            "image_id": path.stem or str(i),
            "answers": [row["SMILES"]],
        }


def build(example: Example) -> Example:
    """Draws a molecule that has no picture."""
    if example["image"] is None:
        image = draw_molecule(example["answers"][0], seed=example["image_id"])
        example = {**example, "image": image}
    return example


READER = Reader(
    about="Molecules: drawings by ChemDraw, and a million to train on, with SMILES "
    "(arXiv:2205.14311).",
    where="""\
https://huggingface.co/yujieq/MolScribe: synthetic.zip (chemdraw.csv and the folder chemdraw) and,
to train, pubchem.zip (train_1m.csv), whose molecules are drawn here by Indigo:
pip install 'paligemma-jax[molecules]'.""",
    licence="MIT (MolScribe); the molecules are those of PubChem, in the public domain, and USPTO.",
    key="image_id",
    features={"image": IMAGE, "image_id": str, "answers": [str]},
    splits={"train": None, "test": 5_719},
    read=read,
    build=build,
)
