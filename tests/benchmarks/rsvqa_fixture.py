"""RSVQA: entries that are not active, questions for numbers, answers in a file of their own."""

from fixture import picture, write


def write_rsvqa(folder, prefix, parts, image):
    """Writes the files of both resolutions; `image` names a file by its id and makes its bytes."""
    expected = {}
    for i, (split, part) in enumerate(parts.items()):
        first = 10 * i
        kinds = ["presence", "count", "comp", "area", "presence"]
        questions = [
            {
                "id": first + n, "img_id": i, "type": kind, "question": f"Is {n} there?",
                "active": n != 4, "answers_ids": [first + n], "people_id": 0, "date_added": 1.5,
            }
            for n, kind in enumerate(kinds)
        ]  # fmt: skip
        answers = [
            {"id": first + n, "question_id": first + n, "answer": "Yes" if n % 2 == 0 else "12",
             "active": n != 4, "people_id": 0}
            for n in range(5)
        ]  # fmt: skip
        write(folder / f"{prefix}_split_{part}_questions.json", {"questions": questions})
        write(folder / f"{prefix}_split_{part}_answers.json", {"answers": answers[::-1]})
        name, form = image(i)
        write(folder / name, picture(i, form=form))
        expected[split] = [
            {"question_id": first + n, "question_type": kinds[n], "answers": ["Yes"]}
            for n in (0, 2)
        ]
    return expected
