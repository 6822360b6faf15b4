"""RefCOCO, RefCOCO+ and RefCOCOg: the box and the mask of the object that a phrase refers to."""

from pgjax.recipes import answers, benchmark, prepared

# The sets that are evaluated on, and the names of published scores.
SPLITS = {
    "refcoco_val": "refcoco_seg", "refcoco_testA": "refcoco_seg_testA",
    "refcoco_testB": "refcoco_seg_testB", "refcocoplus_val": "refcocoplus_seg",
    "refcocoplus_testA": "refcocoplus_seg_testA", "refcocoplus_testB": "refcocoplus_seg_testB",
    "refcocog_val": "refcocog_seg", "refcocog_test": "refcocog_seg_test",
}  # fmt: skip


def get_config(arg=None):
    """Trains on all three data sets, without the images that any of them evaluates on."""
    return benchmark(
        "refcoco_seg",
        arg,
        train=prepared("refcoco_seg", "train"),
        evals={
            split: answers("refcoco_seg", split, "segmentation", published=published)
            for split, published in SPLITS.items()
        },
        prompt="choice(('phrases', 'answers'), ('prefix', 'suffix'))",
        antialias=False,
        text_len=48,
        epochs=100,
        batch_size={224: 256, 448: 256, 896: 64},
        lr={224: 3e-5, 448: 1e-5, 896: 1e-5},
        label_smoothing=0.3,
        dropout={224: 0.1, 448: 0.0, 896: 0.0},
    )
