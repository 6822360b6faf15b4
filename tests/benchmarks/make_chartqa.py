"""ChartQA: files of questions without ids, in a folder whose name has a space."""

from fixture import picture, write_zip


def make(folder):
    members, expected = {}, {}
    for i, part in enumerate(("train", "val", "test")):
        for kind in ("human", "augmented"):
            rows = [
                {"imgname": f"{i}.png", "query": f"How many {kind} {n}?", "label": "3.5"}
                for n in range(2)
            ]
            members[f"ChartQA Dataset/{part}/{part}_{kind}.json"] = rows
            expected[f"{part}_{kind}"] = [
                {"question_id": f"{part}_{kind}/{n}", "question": row["query"], "answers": ["3.5"],
                 "question_type": kind}
                for n, row in enumerate(rows)
            ]  # fmt: skip
        # Image names repeat across splits.
        members[f"ChartQA Dataset/{part}/png/{i}.png"] = picture(i, form="PNG")
        members[f"ChartQA Dataset/{part}/png/same.png"] = picture(i + 5, form="PNG")
    write_zip(folder / "ChartQA Dataset.zip", members)
    return expected
