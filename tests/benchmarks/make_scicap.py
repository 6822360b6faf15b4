"""SciCap: lists of files, and a file per caption."""

from fixture import picture, write, write_zip


def make(folder):
    members, expected = {}, {}
    for i, part in enumerate(("train", "val", "test")):
        stem = f"1001.002{i}v1-Figure{i}-1"
        place = f"List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig/{part}"
        members[f"scicap_data/{place}/file_idx.json"] = [f"{stem}.png"]
        members[f"scicap_data/SciCap-Caption-All/{part}/{stem}.json"] = {
            "contains-subfigure": False, "figure-ID": f"{stem}.png",
            "0-originally-extracted": f"Figure {i}: A Plot.",
            "1-lowercase-and-token-and-remove-figure-index": {
                "caption": f"a plot {i} .", "sentence": [f"a plot {i} ."], "token": ["a"],
            },
            "2-normalized": {"2-1-basic-num": {"caption": "a plot NUM ."}},
        }  # fmt: skip
        write(folder / f"SciCap-No-Subfig-Img/{part}/{stem}.png", picture(i, form="PNG"))
        expected[{"val": "validation"}.get(part, part)] = [
            {"image_id": stem, "answers": [f"a plot {i} ."]}
        ]
    write_zip(folder / "scicap_data.zip", members)
    return expected
