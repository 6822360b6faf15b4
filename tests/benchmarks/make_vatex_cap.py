"""VATEX: Chinese captions beside the English ones, which the test file does not have."""

from fixture import film, write

_FILES = {
    "train": "vatex_training_v1.0.json",
    "validation": "vatex_validation_v1.0.json",
    "test": "vatex_public_test_english_v1.1.json",
}


def make(folder):
    expected = {}
    for i, (split, file) in enumerate(_FILES.items()):
        name = f"Ptf_2VRj-V{i}_000122_000132"
        row = {"videoID": name, "enCap": [f"A man {n} lifts. " for n in range(10)]}
        if split != "test":
            row["chCap"] = ["一个男人"] * 10
        write(folder / file, [row])
        write(folder / f"videos/{name}.mp4", film(i))
        captions = [f"A man {n} lifts." for n in range(10)]
        expected[split] = [{"video_id": name, "answers": captions}]
    return expected
