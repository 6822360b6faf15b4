"""xGQA: a file per language; the answers are English."""

from fixture import picture, write

_QUESTIONS = {
    "bn": "এটা কি লাল?", "de": "Ist es rot?", "en": "Is it red?", "id": "Apakah merah?",
    "ko": "빨간가요?", "pt": "É vermelho?", "ru": "Это красное?", "zh": "是红色的吗？",
}  # fmt: skip


def make(folder):
    expected = {}
    for language, question in _QUESTIONS.items():
        rows = {"201307251": {"imageId": "n1", "question": question, "answer": "no"}}
        write(folder / f"zero_shot/testdev_balanced_questions_{language}.json", rows)
        expected[f"testdev_{language}"] = [
            {"question": question, "answers": ["no"], "language": language}
        ]
    write(folder / "images/n1.jpg", picture(1))
    return expected
