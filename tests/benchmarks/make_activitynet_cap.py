"""ActivityNet Captions: parts with times, one the wrong way around, spaces before the text."""

from fixture import film, write, write_zip


def make(folder):
    files, expected = {}, {}
    for i, (split, file) in enumerate(
        (("train", "train"), ("validation", "val_1"), ("test", "val_2"))
    ):
        name = f"v_ab{i}"
        files[f"{file}.json"] = {
            name: {
                "duration": 4.0,
                "timestamps": [[0, 2.05], [3.5, 1.5]],
                "sentences": ["A man sits.", " He stands up.\n"],
            }
        }
        expected[split] = [
            {"image_id": f"{name}/0", "start": 0.0, "answers": ["A man sits."]},
            {"image_id": f"{name}/1", "start": 1.5, "stop": 3.5, "answers": ["He stands up."]},
        ]
        suffix = ("mp4", "mkv", "webm")[i]
        write(folder / f"videos/{name}.{suffix}", film(i, form=suffix))
    files["train_ids.json"] = ["v_ab0"]
    write_zip(folder / "captions.zip", files)
    return expected
