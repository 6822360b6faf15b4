"""CountBenchQA: images in a parquet file, questions in another, in the same order."""

import pyarrow as pa
from fixture import picture, write
from pyarrow import parquet


def make(folder):
    folder.mkdir(parents=True)
    table = pa.table(
        {
            "image_url": ["https://…"] * 3,
            "text": ["a set of two", "of three", "of four"],
            "number": [2, 3, 4],
            "image": [{"bytes": picture(i), "path": None} for i in range(3)],
        }
    )
    path = folder / "train-00000-of-00001-cf54c241ba947306.parquet"
    parquet.write_table(table, path, row_group_size=2)
    questions = [
        {"question": f"How many {x} are there in the image?"} for x in ("ox", "cups", "pi")
    ]
    write(folder / "countbench_paired_questions.json", questions)
    return {
        "test": [
            {"question_id": i, "answers": [str(i + 2)], "question": questions[i]["question"]}
            for i in range(3)
        ]
    }
