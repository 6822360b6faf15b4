"""TallyQA: images of two collections; only the test set says what is simple."""

from fixture import picture, write, write_zip


def make(folder):
    images = ["VG_100K/1.jpg", "train2014/COCO_train2014_000000000002.jpg"]
    train = [
        {
            "image": name, "answer": 3 + i, "data_source": "visual_genome", "image_id": i,
            "question": "How many dogs?", "question_id": 30001,
        }
        for i, name in enumerate(images)
    ]  # fmt: skip
    test = [{**row, "issimple": i == 0} for i, row in enumerate(train)]
    write_zip(folder / "tallyqa.zip", {"train.json": train, "test.json": test})
    for i, name in enumerate(images):
        write(folder / name, picture(i))
    return {
        "train": [{"answers": [str(3 + i)], "issimple": -1, "image_id": i} for i in range(2)],
        "test": [{"answers": [str(3 + i)], "issimple": 1 - i, "image_id": i} for i in range(2)],
    }
