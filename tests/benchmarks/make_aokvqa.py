"""A-OKVQA: free answers and choices; the test file has neither answers nor the right choice."""

import io
import json
import tarfile

from fixture import picture, write_zip


def make(folder):
    expected = {}
    folder.mkdir(parents=True)
    with tarfile.open(folder / "aokvqa_v1p0.tar.gz", "w:gz") as tar:
        for i, part in enumerate(("train", "val", "test")):
            row = {
                "split": part, "image_id": 299207, "question_id": f"22MexNkBPpdZGX6sxbxVB{i}",
                "question": "What is the man by?", "difficult_direct_answer": part == "train",
                "choices": ["skateboard", "bags", "boot", "tv"],
            }  # fmt: skip
            if part != "test":
                row |= {
                    "correct_choice_idx": 1,
                    "direct_answers": ["bag"] * 10,
                    "rationales": ["a"] * 3,
                }
            content, info = json.dumps([row]).encode(), tarfile.TarInfo(f"aokvqa_v1p0_{part}.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            write_zip(folder / f"{part}2017.zip", {f"{part}2017/{299207:012}.jpg": picture(i)})
            known = part != "test"
            expected[{"val": "validation"}.get(part, part)] = [
                {"question_id": row["question_id"], "choices": row["choices"],
                 "correct": ["bags"] if known else [], "answers": ["bag"] * 10 if known else [],
                 "difficult_direct_answer": part == "train"}
            ]  # fmt: skip
    return expected
