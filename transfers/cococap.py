"""COCO captions of photographs, in Karpathy's splits."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the five captions, drawn anew each time."""
    return benchmark(
        "cococap",
        arg,
        train=prepared("cococap", "train+restval"),
        evals={
            "validation": answers(
                "cococap", "validation", "cider", published="cococap", sampler="beam(2)"
            )
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')",
        antialias=False,
        text_len=32,
        epochs=5,
        batch_size=256,
        lr=1e-5,
        weight_decay=1e-6,
    )
