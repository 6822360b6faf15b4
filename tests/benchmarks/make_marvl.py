"""MaRVL: true and false, folders in other scripts, accents apart or not."""

import json
import unicodedata

from fixture import picture, write

_CONCEPTS = {"id": "39-Panci", "sw": "64-Mkoba", "ta": "1-தமிழ்", "tr": "10-Müzik", "zh": "5-烤鱼"}


def make(folder):
    expected = {}
    for language, concept in _CONCEPTS.items():
        rows = [
            {
                "id": f"{language}-{n}", "caption": f"{concept} {n} é", "label": n == 0,
                "left_img": "1-1.jpg", "right_img": "1-2.jpg", "chapter": "Food",
                "concept": concept, "language": language,
                "annotator_info": {"annotator_id": "a", "country_of_birth": "b"},
            }
            for n in range(2)
        ]  # fmt: skip
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        write(folder / f"zero_shot/annotations/marvl-{language}.jsonl", lines)
        place = folder / language / "images" / unicodedata.normalize("NFD", concept)
        for n in (1, 2):
            write(place / f"1-{n}.jpg", picture(n))
        expected[f"test_{language}"] = [
            {"question_id": row["id"], "question": row["caption"], "answers": [str(row["label"])],
             "language": language}
            for row in rows
        ]  # fmt: skip
    return expected
