"""COCO-35L: captions of COCO in 35 languages; XM3600: captions written in 36 languages."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader

LANGUAGES = (
    "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fil", "fr", "he", "hi", "hr", "hu",
    "id", "it", "ja", "ko", "mi", "nl", "no", "pl", "pt", "ro", "ru", "sv", "sw", "te", "th", "tr",
    "uk", "vi", "zh",
)  # fmt: skip
# The 36th, Quechua, is in no training data.
LANGUAGES_XM3600 = tuple(sorted((*LANGUAGES, "quz")))


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per image in `train`, with all captions; in `dev`, one per language.

    The files have a line per caption and target language; the English ones are taken from the lines
    of one of them.
    """
    images = {
        image["cocoid"]: f"{image['filepath']}/{image['filename']}"
        for image in files.rows("dataset_coco.json", "images")
    }
    name = f"coco_mt_{split}.jsonl"
    captions: dict[int, dict[str, list[str]]] = {}
    for row in files.jsonl(files.first(name, f"{name}.bz2", f"{name}.gz")):
        of_image = captions.setdefault(int(str(row["image_id"]).partition("_")[0]), {})
        language = row["trg_lang"]
        of_image.setdefault(language, []).append(row["translation_tokenized"])
        if language == "de":
            of_image.setdefault("en", []).append(row["caption_tokenized"])
    for image_id, of_image in captions.items():
        image = files[images[image_id]]
        known = [language for language in LANGUAGES if language in of_image]
        if split == "dev":
            parts = [(f"{image_id}_{language}", language, [language]) for language in known]
        else:
            parts = [(str(image_id), "", known)]
        for key, language, languages in parts:
            yield {
                "image": image,
                "image_id": key,
                "language": language,
                "languages": [name for name in languages for _ in of_image[name]],
                "answers": [caption for name in languages for caption in of_image[name]],
            }


def read_xm3600(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per language, of lines that hold an image with all languages."""
    for row in files.jsonl("captions.jsonl"):
        for language in LANGUAGES_XM3600:
            yield {
                "image": files[f"{row['image/key']}.jpg"],
                "image_id": f"{row['image/key']}_{language}",
                "language": language,
                "answers": row[language]["caption"],
            }


COCO = Reader(
    about="COCO-35L: captions of COCO translated to 34 languages (arXiv:2205.12522).",
    where="""\
https://google.github.io/crossmodal-3600/: coco_mt_train.jsonl.bz2 and coco_mt_dev.jsonl.bz2, as
they are, as .jsonl.gz or decompressed (they are held in memory, some GB for training);
https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip (dataset_coco.json);
https://cocodataset.org/#download: train2014.zip and val2014.zip.""",
    licence="CC BY 4.0 (captions); the images are under the licences of their Flickr authors.",
    key="image_id",
    features={
        "image": IMAGE,
        "image_id": str,
        "language": str,
        "languages": [str],
        "answers": [str],
    },
    splits={"train": 113_287, "dev": 5_000 * len(LANGUAGES)},
    read=read,
)

XM3600 = Reader(
    about="XM3600: captions in 36 languages of images from where they are spoken (2205.12522).",
    where="""\
https://google.github.io/crossmodal-3600/: captions.zip (captions.jsonl) and images.tgz.""",
    licence="CC BY 4.0 (captions); CC BY 2.0 as listed by Open Images (images).",
    key="image_id",
    features={"image": IMAGE, "image_id": str, "language": str, "answers": [str]},
    splits={"test": 3_600 * len(LANGUAGES_XM3600)},
    read=read_xm3600,
)
