"""ST-VQA: COCO's own images instead of small copies where they are, other collections beside."""

from fixture import picture, write


def make(folder):
    paths = ["coco-text/COCO_train2014_000000000009.jpg", "icdar/img_1.jpg"]
    expected = {}
    for split in ("train", "test"):
        rows = [
            {
                "file_path": path, "question": f"What is {n}?", "question_id": n, "set_name": split,
                "dataset": path.partition("/")[0], "image_classes": [], "file_name": "x",
            }
            for n, path in enumerate(paths)
        ]  # fmt: skip
        if split == "train":
            rows = [{**row, "answers": ["Stop"]} for row in rows]
        write(folder / f"{split}_task_3.json", {"task_name": "task 3", "data": rows})
        expected[split] = [
            {"question_id": n, "image_id": path, "answers": ["Stop"] if split == "train" else []}
            for n, path in enumerate(paths)
        ]
    for path in paths:
        write(folder / "train_images" / path, picture(1))
    write(folder / "train2014/COCO_train2014_000000000009.jpg", picture(2, (40, 40)))
    return expected
