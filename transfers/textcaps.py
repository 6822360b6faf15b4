"""TextCaps: captions of photographs with text."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the five captions in lower case, drawn anew each time."""
    return benchmark(
        "textcaps",
        arg,
        train=prepared("textcaps", "train"),
        evals={
            "validation": answers(
                "textcaps",
                "validation",
                "cider",
                published="textcaps",
                submission="textcaps",
                sampler="beam(3)",
            )
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')|lower('suffix')",
        antialias=False,
        text_len=32,
        epochs=5,
        batch_size=256,
        lr=1e-5,
        weight_decay=1e-6,
    )
