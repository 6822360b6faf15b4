"""ScienceQA: all splits in one file, questions without an image, empty hints."""

from fixture import picture, write


def make(folder):
    problems, expected = {}, {}
    for i, split in enumerate(("train", "train", "val", "test", "train")):
        key = str(i + 1)
        image = None if i == 4 else "image.png"
        problems[key] = {
            "question": f"Which is {i}?", "choices": ["West Virginia", "Louisiana", "Oregon"],
            "answer": i % 3, "hint": "" if i % 2 else "Use the map.", "image": image,
            "task": "closed choice", "grade": "grade2", "subject": "social science",
            "topic": "geography", "category": "Geography", "skill": "Read a map", "lecture": "",
            "solution": "", "split": split,
        }  # fmt: skip
        if image:
            write(folder / split / key / image, picture(i, form="PNG"))
            expected.setdefault({"val": "validation"}.get(split, split), []).append(
                {"question_id": key, "hint": "N/A" if i % 2 else "Use the map.", "correct": i % 3,
                 "answers": [f"The answer is {'ABC'[i % 3]}."]}
            )  # fmt: skip
    write(folder / "problems.json", problems)
    return expected
