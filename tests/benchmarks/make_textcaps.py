"""TextCaps: a row per caption; the test file has none."""

from fixture import picture, write, write_zip


def make(folder):
    expected, members = {}, {}
    for i, part in enumerate(("train", "val", "test")):
        image = f"c5ea6c74cbd6ed4{i}"
        rows = [
            {
                "caption_id": n, "caption_str": f"A sign says {n}.\n", "image_id": image,
                "image_name": image, "image_path": f"train/{image}.jpg", "set_name": part,
            }
            for n in range(5)
        ]  # fmt: skip
        if part == "test":
            rows = [{k: v for k, v in rows[0].items() if not k.startswith("caption")}]
        write(folder / f"TextCaps_0.1_{part}.json", {"data": rows})
        members[f"train_images/{image}.jpg"] = picture(i)
        answers = [] if part == "test" else [f"A sign says {n}." for n in range(5)]
        expected[{"val": "validation"}.get(part, part)] = [{"image_id": image, "answers": answers}]
    write_zip(folder / "train_val_images.zip", members)
    return expected
