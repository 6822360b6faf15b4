"""OK-VQA: the names of VQA's files without a version; raw answers beside stemmed ones."""

from fixture import picture, write, write_zip


def make(folder):
    expected = {}
    for i, part in enumerate(("train2014", "val2014")):
        ids = [10 * i, 10 * i + 1]
        questions = [{"image_id": 7, "question": f"What is {q}?", "question_id": q} for q in ids]
        annotations = [
            {
                "image_id": 7, "answer_type": "other", "question_type": "four", "question_id": q,
                "confidence": 3,
                "answers": [
                    {"answer_id": n + 1, "raw_answer": "racing", "answer_confidence": "yes",
                     "answer": "race" if n < 6 else "motocross"}
                    for n in range(10)
                ],
            }
            for q in reversed(ids)
        ]  # fmt: skip
        name = f"OpenEnded_mscoco_{part}_questions.json"
        write_zip(folder / f"{name}.zip", {name: {"questions": questions}})
        write(folder / f"mscoco_{part}_annotations.json", {"annotations": annotations})
        # A file of VQA v2 in the same folder is another one.
        write(folder / f"v2_mscoco_{part}_annotations.json", {"annotations": []})
        write(folder / f"{part}/COCO_{part}_{7:012}.jpg", picture(i))
        expected["train" if i == 0 else "validation"] = [
            {"question_id": q, "answers": ["race"] * 6 + ["motocross"] * 4, "question_type": "four"}
            for q in ids
        ]
    return expected
