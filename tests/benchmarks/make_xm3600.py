"""XM3600: a line per image, all languages in it; line separators of Unicode inside a caption."""

import json

from fixture import picture, write

from pgjax.benchmarks.readers.coco35l import LANGUAGES_XM3600


def make(folder):
    rows = [
        {
            "image/key": f"000{i}a", "image/locale": "ar",
            **{
                x: {"caption": [f"{x} {i}\u2028é", f"{x} 2"], "caption/tokenized": []}
                for x in LANGUAGES_XM3600
            },
        }
        for i in range(2)
    ]  # fmt: skip
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write(folder / "captions.jsonl", lines)
    for i in range(2):
        write(folder / f"images/000{i}a.jpg", picture(i))
    return {
        "test": [
            {"image_id": f"000{i}a_{x}", "language": x, "answers": [f"{x} {i}\u2028é", f"{x} 2"]}
            for i in range(2) for x in LANGUAGES_XM3600
        ]
    }  # fmt: skip
