"""AI2D: a file of questions and one of labels per diagram; letters for labels; ids of the test."""

from fixture import picture, write, write_zip


def make(folder):
    members, expected = {}, {"train": [], "test": []}
    for i in range(3):
        name = f"{i}.png"
        questions = {
            f"Which is {i}?": {
                "abcLabel": False, "answerTexts": ["Leaf", "root", "Stem", "2"],
                "correctAnswer": 2, "questionId": f"{name}-0",
            },
            f"Which letter is {i}?": {
                "abcLabel": True, "answerTexts": ["A", "B", "C", "D"],
                "correctAnswer": 1, "questionId": f"{name}-1",
            },
        }  # fmt: skip
        labels = {
            "T0": {"rectangle": [[2, 3], [14, 15]], "replacementText": "A", "value": "leaf"},
            "T1": {"rectangle": [[14, 30], [30, 20]], "replacementText": "B", "value": "root"},
        }
        members[f"ai2d/questions/{name}.json"] = {"questions": questions, "imageName": name}
        members[f"ai2d/annotations/{name}.json"] = {"text": labels, "arrows": {}}
        members[f"ai2d/images/{name}"] = picture(i, (32, 40), "PNG")
        expected["test" if i == 1 else "train"] += [
            {"question_id": row["questionId"], "question": question, "choices": row["answerTexts"],
             "answers": [row["answerTexts"][row["correctAnswer"]]]}
            for question, row in questions.items()
        ]  # fmt: skip
        members[f"__MACOSX/ai2d/questions/._{name}.json"] = b"\0\5\x16\7"  # made on a Mac
    write_zip(folder / "ai2d-all.zip", members)
    write(folder / "ai2d_test_ids.csv", "1\n")
    return expected
