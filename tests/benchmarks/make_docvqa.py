"""DocVQA: pages in a compressed tar; the test file has no answers, and another name."""

import io
import tarfile

from fixture import picture, write


def make(folder):
    expected, pages = {}, {}
    for i, part in enumerate(("train", "val", "test")):
        rows = [
            {
                "questionId": 10 * i + n, "question": f"What is {n}?", "docId": i,
                "image": f"documents/xnbl000{i}_1.png", "data_split": part,
            }
            for n in range(2)
        ]  # fmt: skip
        if part != "test":
            rows = [
                {**row, "answers": ["0.28", "$0.28"], "question_types": ["layout"]} for row in rows
            ]
        name = f"{part}_v1.0{'' if part == 'test' else '_withQT'}.json"
        write(folder / name, {"dataset_name": "docvqa", "data": rows})
        place = "" if part == "val" else "documents/"  # as of later and of earlier archives
        pages[f"spdocvqa_images/{place}xnbl000{i}_1.png"] = picture(i, form="PNG")
        expected[{"val": "validation"}.get(part, part)] = [
            {"question_id": row["questionId"], "answers": row.get("answers", [])} for row in rows
        ]
    with tarfile.open(folder / "spdocvqa_images.tar.gz", "w:gz") as tar:
        for name, content in pages.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return expected
