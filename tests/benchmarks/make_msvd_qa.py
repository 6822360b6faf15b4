"""MSVD-QA: a table from numbers to files, whose names may begin with a dash; a tar of AVIs."""

import io
import tarfile

from fixture import film, write


def make(folder):
    names = ["-4wsuPCjDBc_5_15", "0lh_UWF9ZP4_82_87", "k06Ge9ANKM8_0_10"]
    lines = [f"{name} vid{i}" for i, name in enumerate(names, 1)]
    write(folder / "youtube_mapping.txt", "\n".join(lines) + "\n")
    expected = {}
    for i, split in enumerate(("train", "val", "test")):
        rows = [
            {"answer": "dog", "id": 10 * i + n, "question": f"what barks {n}?", "video_id": i + 1}
            for n in range(2)
        ]
        write(folder / f"{split}_qa.json", rows)
        expected[{"val": "validation"}.get(split, split)] = [
            {"question_id": r["id"], "question": r["question"], "answers": ["dog"],
             "image_id": names[i]}
            for r in rows
        ]  # fmt: skip
    with tarfile.open(folder / "YouTubeClips.tar", "w") as tar:
        for i, name in enumerate(names):
            info, content = tarfile.TarInfo(f"YouTubeClips/{name}.avi"), film(i, form="avi")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return expected
