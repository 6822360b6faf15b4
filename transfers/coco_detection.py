"""COCO: the boxes and classes of all objects in a photograph."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Lists 100 objects, of which noise boxes fill up the targets; crowds are left out.

    The paper states prompt, epochs and noise boxes, and no other number.
    """
    return benchmark(
        "coco_detection",
        arg,
        train=prepared("coco_detection", "train"),
        evals={
            "val": answers(
                "coco_detection", "val", "mean_average_precision", published="coco_detection"
            )
        },
        prompt="strfmt('detect all classes', 'prefix')",
        target="boxes_to_loc",
        text_len=932,
        objects=100,
        epochs=50,
        batch_size=256,
        lr=1e-5,
    )
