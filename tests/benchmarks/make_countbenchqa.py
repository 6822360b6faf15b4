"""CountBenchQA: images in a parquet file that lacks one; a gray one; questions in another file."""

import io

import pyarrow as pa
from fixture import picture, write
from PIL import Image
from pyarrow import parquet


def make(folder):
    folder.mkdir(parents=True)
    gray = io.BytesIO()
    Image.new("L", (20, 24)).save(gray, "PNG")
    images = [picture(0), None, picture(2), gray.getvalue(), picture(4)]
    table = pa.table(
        {
            "image_url": ["https://…"] * 5,
            "text": ["a set of two", "of three", "of four", "of five", "of six"],
            "number": [2, 3, 4, 5, 6],
            "image": [{"bytes": image, "path": None} if image else None for image in images],
        }
    )
    path = folder / "train-00000-of-00001-cf54c241ba947306.parquet"
    parquet.write_table(table, path, row_group_size=2)
    questions = [
        {"question": f"How many {x} are there in the image?"}
        for x in ("ox", "cups", "pi", "elks", "jars")
    ]
    write(folder / "countbench_paired_questions.json", questions)
    return {
        "test": [
            {"question_id": i, "answers": [str(i + 2)], "question": questions[i]["question"]}
            for i in (0, 2, 4)
        ]
    }
