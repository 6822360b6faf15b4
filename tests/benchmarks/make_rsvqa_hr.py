"""RSVQA-HR: a second test set, of another city."""

from rsvqa_fixture import write_rsvqa


def make(folder):
    parts = {"train": "train", "validation": "val", "test": "test", "test2": "test_phili"}
    return write_rsvqa(folder, "USGS", parts, lambda i: (f"Data/{i}.png", "PNG"))
