"""OCR-VQA: splits as numbers, questions and answers as parallel lists, GIFs among the images."""

from fixture import picture, write


def make(folder):
    covers, expected = {}, {}
    for i, split in enumerate(("train", "validation", "test", "train"), 1):
        key, form = f"03{i}", "gif" if i == 4 else "jpg"
        covers[key] = {
            "imageURL": f"https://…/{key}.{form}", "genre": "Health", "authorName": "Bo",
            "title": f"Title {i}", "split": i if i < 4 else 1,
            "questions": ["Who wrote this book?", "What is the title?"],
            "answers": ["Bo", f"T {i}"],
        }  # fmt: skip
        write(folder / f"images/{key}.{form}", picture(i, form="GIF" if form == "gif" else "JPEG"))
        expected.setdefault(split, []).extend(
            {"question_id": f"{key}/{n}", "image_id": key, "answers": [answer]}
            for n, answer in enumerate(("Bo", f"T {i}"))
        )
    write(folder / "dataset.json", covers)
    return expected
