"""ActivityNet-QA: questions and answers in files of their own, in other orders."""

from fixture import film, write


def make(folder):
    expected = {}
    for i, split in enumerate(("train", "val", "test")):
        ids = [f"ab{i}_{n}" for n in range(2)]
        questions = [
            {"video_name": f"ab{i}", "question": f"is it {q}", "question_id": q} for q in ids
        ]
        answers = [{"answer": "yes", "type": 3, "question_id": q} for q in reversed(ids)]
        write(folder / f"dataset/{split}_q.json", questions)
        write(folder / f"dataset/{split}_a.json", answers)
        write(folder / f"v_ab{i}.mkv", film(i, form="mkv"))
        expected[{"val": "validation"}.get(split, split)] = [
            {"question_id": q, "question": f"is it {q}", "answers": ["yes"], "question_type": "3"}
            for q in ids
        ]
    return expected
