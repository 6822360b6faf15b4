"""COCO-35L: a line per caption and language, compressed; the English ones are in each language."""

import bz2
import json

from fixture import picture, write, write_zip

from pgjax.benchmarks.readers.coco35l import LANGUAGES


def make(folder):
    images, expected = [], {}
    for i, split in enumerate(("train", "dev")):
        name = f"COCO_val2014_{i:012}.jpg"
        images.append({"filepath": "val2014", "filename": name, "cocoid": i, "sentences": []})
        write(folder / "val2014" / name, picture(i))
        lines = [
            {
                "image_id": f"{i}_{n}", "caption_tokenized": f"a cat {n}", "src_lang": "en",
                "trg_lang": language, "translation_tokenized": f"{language} é {n}",
                "backtranslation_tokenized": "a cat",
            }
            for n in range(2) for language in LANGUAGES if language != "en"
        ]  # fmt: skip
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
        write(folder / f"coco_mt_{split}.jsonl.bz2", bz2.compress(text.encode()))
        captions = {
            x: [f"a cat {n}" if x == "en" else f"{x} é {n}" for n in range(2)] for x in LANGUAGES
        }
        if split == "train":
            row = {
                "image_id": "0", "languages": [x for x in LANGUAGES for _ in range(2)],
                "answers": [caption for x in LANGUAGES for caption in captions[x]],
            }  # fmt: skip
            expected["train"] = [row]
        else:
            expected["dev"] = [
                {"image_id": f"1_{x}", "language": x, "answers": captions[x]} for x in LANGUAGES
            ]
    write_zip(folder / "caption_datasets.zip", {"dataset_coco.json": {"images": images}})
    return expected
