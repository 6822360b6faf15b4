"""TextVQA: some images are turned, which tables of Open Images say; the test set has no answers."""

from fixture import picture, write

HEADER = "ImageID,Subset,OriginalURL,Rotation\n"


def make(folder):
    expected = {}
    for i, part in enumerate(("train", "val", "test")):
        rows = [
            {
                "question": f"what is {n}?", "image_id": f"0054c91397f2fe0{i}{n}",
                "question_id": 10 * i + n, "image_width": 20, "image_height": 24,
                "image_classes": ["Belt"], "question_tokens": ["what"], "set_name": part,
            }
            for n in range(2)
        ]  # fmt: skip
        if part != "test":
            rows = [{**row, "answers": ["nous les gosses"] * 9 + ["gosses"]} for row in rows]
        write(folder / f"TextVQA_0.5.1_{part}.json", {"data": rows, "dataset_type": part})
        for row in rows:
            write(folder / f"train_images/{row['image_id']}.jpg", picture(row["question_id"]))
        answers = [] if part == "test" else rows[0]["answers"]
        expected[{"val": "validation"}.get(part, part)] = [
            {"question_id": row["question_id"], "image_id": row["image_id"], "answers": answers}
            for row in rows
        ]
    lines = "0054c91397f2fe000,train,https://…,90.0\n0054c91397f2fe001,train,https://…,\n"
    write(folder / "train-images-boxable-with-rotation.csv", HEADER + lines)
    lines = "0054c91397f2fe020,test,https://…,nan\n"
    write(folder / "test-images-with-rotation.csv", HEADER + lines)
    return expected
