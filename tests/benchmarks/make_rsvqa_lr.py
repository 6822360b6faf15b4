"""RSVQA-LR: images are TIFF."""

from rsvqa_fixture import write_rsvqa


def make(folder):
    parts = {"train": "train", "validation": "val", "test": "test"}
    return write_rsvqa(folder, "LR", parts, lambda i: (f"Images_LR/{i}.tif", "TIFF"))
