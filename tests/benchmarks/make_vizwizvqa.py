"""VizWiz: questions without ids, empty answers, a test set without any."""

from fixture import picture, write, write_zip


def make(folder):
    members, expected = {}, {}
    for i, part in enumerate(("train", "val", "test")):
        name = f"VizWiz_{part}_{i:08}.jpg"
        row = {"image": name, "question": "What is this?"}
        texts = ["soda", "", "coke"] + ["soda"] * 7
        if part != "test":
            row |= {
                "answers": [{"answer_confidence": "yes", "answer": text} for text in texts],
                "answer_type": "other", "answerable": 1,
            }  # fmt: skip
        members[f"{part}.json"] = [row]
        write(folder / part / name, picture(i))
        answers = [] if part == "test" else [text for text in texts if text]
        expected[{"val": "validation"}.get(part, part)] = [{"image_id": name, "answers": answers}]
    write_zip(folder / "Annotations.zip", members)
    return expected
