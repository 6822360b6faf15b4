"""DOCCI: all splits in one file of JSON lines, images in a compressed archive."""

import io
import json
import tarfile

from fixture import picture, write


def make(folder):
    rows, expected, out = [], {}, io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for i, split in enumerate(["train", "test", "qual_dev", "qual_test"] * 2):
            key = f"{split}_{i:05}"
            text = f"A cat {i} sits on a mat. It is gray.\nIndoors."
            rows.append({"example_id": key, "split": split, "image_file": f"{key}.jpg",
                         "description": text})  # fmt: skip
            info = tarfile.TarInfo(f"images/{key}.jpg")
            info.size = len(picture(i))
            tar.addfile(info, io.BytesIO(picture(i)))
            found = {"image_id": key, "answers": [text.replace("\n", " ")]}
            expected.setdefault(split, []).append(found)
    write(folder / "docci_images.tar.gz", out.getvalue())
    write(folder / "docci_descriptions.jsonlines", "".join(f"{json.dumps(r)}\n" for r in rows))
    return expected
