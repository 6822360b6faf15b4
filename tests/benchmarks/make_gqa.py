"""GQA: questions by their ids, images by theirs."""

from fixture import picture, write, write_zip


def make(folder):
    expected, members = {}, {}
    for i, split in enumerate(("train", "val", "testdev")):
        rows = {
            f"0{i}{n}": {
                "imageId": f"n{i}", "question": f"Is it {n}?", "answer": "yes",
                "fullAnswer": "Yes, it is.", "isBalanced": True, "groups": {}, "semantic": [],
            }
            for n in range(2)
        }  # fmt: skip
        members[f"{split}_balanced_questions.json"] = rows
        members[f"{split}_all_questions.json"] = {}
        write(folder / f"images/n{i}.jpg", picture(i))
        expected[split] = [
            {"question_id": q, "image_id": f"n{i}", "question": row["question"], "answers": ["yes"]}
            for q, row in rows.items()
        ]
    write_zip(folder / "questions1.2.zip", members)
    return expected
