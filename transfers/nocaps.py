"""NoCaps: captions of objects that COCO does not have, of a model that was tuned on COCO."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates only; there is no training data."""
    return benchmark(
        "nocaps",
        arg,
        init="ft-cococap-{res}",
        evals={
            "validation": answers(
                "nocaps", "validation", "cider", published="nocaps", sampler="beam(2)"
            )
        },
        prompt="strfmt('caption en', 'prefix')",
        antialias=False,
        text_len=32,
    )
