"""VQAv2: zips of questions and annotations, images in folders and zips."""

from fixture import picture, write, write_zip

_PARTS = {
    "train": "train2014",
    "validation": "val2014",
    "test": "test2015",
    "test-dev": "test-dev2015",
}


def make(folder):
    expected = {}
    for i, (split, part) in enumerate(_PARTS.items()):
        ids = {10 * i + n: image for n, image in enumerate((1, 1, 2, 3))}
        if split == "test-dev":  # part of the test questions, over its images
            ids = {20: 1, 22: 2}
        questions = [
            {"image_id": image, "question": f"Is this number {q}?", "question_id": q}
            for q, image in ids.items()
        ]
        annotations = [
            {
                "question_type": "is this", "multiple_choice_answer": "yes",
                "answer_type": "yes/no",
                "answers": [
                    {"answer": "yes" if n < 7 else "no", "answer_id": n + 1}
                    for n in range(10)
                ],
                "image_id": image, "question_id": q,
            }
            for q, image in reversed(ids.items())  # in another order than the questions
        ]  # fmt: skip
        content = {"info": {}, "data_subtype": part, "questions": questions}
        name = f"v2_OpenEnded_mscoco_{part}_questions.json"
        write_zip(folder / f"v2_Questions_{split}_mscoco.zip", {name: content})
        if split in ("train", "validation"):
            write(folder / f"v2_mscoco_{part}_annotations.json", {"annotations": annotations})
        answers = [] if split.startswith("test") else ["yes"] * 7 + ["no"] * 3
        expected[split] = [
            {
                "question_id": q,
                "image_id": image,
                "question": f"Is this number {q}?",
                "answers": answers,
            }
            for q, image in ids.items()
        ]
    for image in (1, 2, 3):
        write(folder / f"train2014/COCO_train2014_{image:012}.jpg", picture(image))
    for part in ("val2014", "test2015"):
        members = {f"{part}/COCO_{part}_{i:012}.jpg": picture(i) for i in (1, 2, 3)}
        write_zip(folder / f"{part}.zip", members)
    return expected
