"""GrandStaff: lists of files in folders of composers; notes in two notations, worn copies."""

from fixture import picture, write

KERN = """**kern\t**kern
*clefF4\t*clefG2
=12-\t=12-
4C 4E\t8cc#L
.\t8ddJ
*-\t*-
"""
PLAIN = KERN.replace("=12-", "=-").strip()


def make(folder):
    expected = {}
    for part, name, end in (
        ("train", "maj2_down_m-88-91", ".krn"),
        ("val", "min3_up_m-88-91", ".bekrn"),
        ("test", "original_m-88-91", ".krn"),
    ):
        stem = f"chopin/preludes/prelude28-17/{name}"
        text = KERN.replace("**kern", "**ekern_1.0").replace("8cc#L", "8·cc@#·L")
        write(folder / f"grandstaff_dataset/{stem}{end}", text if end == ".bekrn" else KERN)
        write(folder / f"grandstaff_dataset/{stem}.jpg", picture(1))
        write(folder / f"grandstaff_dataset/{stem}_distorted.jpg", picture(2))
        lists = folder / "partitions_grandstaff/types"
        write(lists / f"{part}.txt", f"grandstaff_dataset/{stem}.ekrn\n")
        worn = ("", "_distorted") if part == "train" else ("",)
        expected[part.replace("val", "validation")] = [
            {"image_id": stem + end, "answers": [PLAIN]} for end in worn
        ]
    return expected
