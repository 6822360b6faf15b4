"""NoCaps: captions of Open Images, many of objects that COCO does not have."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space, coco_captions

_FILES = {"validation": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields images with ten captions each; only the server has those of the test split."""
    for image, captions in coco_captions(files, _FILES[split]):
        yield {
            "image": files[image["file_name"]],
            "image_id": image["id"],
            "open_images_id": image["open_images_id"],
            "domain": image.get("domain", ""),
            "answers": [clean_space(caption) for caption in captions],
        }


READER = Reader(
    about="NoCaps: captions of images in and out of the domain of COCO (arXiv:1812.08658).",
    where="""\
https://nocaps.org/download: nocaps_val_4500_captions.json, nocaps_test_image_info.json, and the
images, of the validation and test sets of Open Images, in any folders or archives.""",
    licence="CC BY 2.0 (captions); CC BY 2.0 as listed by Open Images (images).",
    key="image_id",
    features={
        "image": IMAGE, "image_id": int, "open_images_id": str, "domain": str, "answers": [str],
    },
    splits={"validation": 4_500, "test": 10_600},
    read=read,
)  # fmt: skip
