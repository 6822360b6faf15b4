"""COCO captions: Karpathy's file, whose captions may have line breaks and spaces at their ends."""

from fixture import picture, write, write_zip


def make(folder):
    images, expected = [], {}
    for i, split in enumerate(("train", "restval", "val", "test") * 2):
        part = "train2014" if split == "train" else "val2014"
        name = f"COCO_{part}_{i:012}.jpg"
        raw = [f"A cat on mat {i}. ", f"A cat\n\nsits, {i}", "cat", "the cat ", "Two mats"]
        images.append(
            {
                "filepath": part, "filename": name, "imgid": i, "split": split, "cocoid": i,
                "sentids": list(range(5 * i, 5 * i + 5)),
                "sentences": [
                    {"tokens": text.lower().split(), "raw": text, "imgid": i, "sentid": 5 * i + n}
                    for n, text in enumerate(raw)
                ],
            }
        )  # fmt: skip
        write(folder / part / name, picture(i))
        expected.setdefault({"val": "validation"}.get(split, split), []).append(
            {
                "image_id": i,
                "answers": [f"A cat on mat {i}.", f"A cat sits, {i}", "cat", "the cat", "Two mats"],
            }
        )
    write_zip(
        folder / "caption_datasets.zip",
        {"dataset_coco.json": {"images": images, "dataset": "coco"}},
    )
    return expected
