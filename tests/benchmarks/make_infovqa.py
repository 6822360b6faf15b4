"""InfographicVQA: answers of several spans, which count in any order in the validation set."""

from fixture import picture, write

_NAMES = {
    "train": "infographicsVQA_train_v1.0.json",
    "validation": "infographicsVQA_val_v1.0_withQT.json",
    "test": "infographicsVQA_test_v1.0.json",
}


def make(folder):
    expected = {}
    for i, (split, name) in enumerate(_NAMES.items()):
        row = {
            "questionId": 65718 + i, "question": "Which two?", "image_local_name": f"3047{i}.jpeg",
            "image_url": "https://…", "ocr_output_file": f"3047{i}.json", "data_split": split,
        }  # fmt: skip
        if split != "test":
            row["answers"] = ["twitter, Pinterest"]
        write(folder / name, {"dataset_name": "infographicVQA", "data": [row]})
        write(folder / f"infographicsvqa_images/3047{i}.jpeg", picture(i))
        answers = row.get("answers", [])
        if split == "validation":
            answers = ["twitter, Pinterest", "Pinterest, twitter"]
        expected[split] = [{"question_id": 65718 + i, "answers": answers}]
    return expected
