"""MSRVTT-QA: numbers of videos, not their names."""

from fixture import film, write


def make(folder):
    expected = {}
    for i, split in enumerate(("train", "val", "test")):
        rows = [
            {
                "answer": "couch", "category_id": 14, "id": 10 * i + n, "video_id": i,
                "question": f"what is {n} on?",
            }
            for n in range(2)
        ]  # fmt: skip
        write(folder / f"MSRVTT-QA/{split}_qa.json", rows)
        write(folder / f"video{i}.mp4", film(i))
        expected[{"val": "validation"}.get(split, split)] = [
            {"question_id": r["id"], "question": r["question"], "answers": ["couch"],
             "image_id": f"video{i}"}
            for r in rows
        ]  # fmt: skip
    return expected
