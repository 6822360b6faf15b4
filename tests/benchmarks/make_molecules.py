"""Molecules: tables of SMILES, whose pictures lie in a folder beside them."""

from fixture import picture, write


def make(folder):
    expected = {}
    for split, path, pictures in (
        ("train", "pubchem/train_1m.csv", "pubchem/images"),
        ("test", "synthetic/chemdraw.csv", "synthetic/chemdraw"),
    ):
        smiles = ["CC(=O)O", "C/C=C/[C@H](O)C"]
        lines = [f"{i},{pictures}/US{split}{i}.png,{text}\n" for i, text in enumerate(smiles)]
        write(folder / path, "image_id,file_path,SMILES\n" + "".join(lines))
        for i in range(2):
            write(folder / f"{pictures}/US{split}{i}.png", picture(i, (30, 50), "PNG"))
        expected[split] = [
            {"image_id": f"US{split}{i}", "answers": [text]} for i, text in enumerate(smiles)
        ]
    return expected
