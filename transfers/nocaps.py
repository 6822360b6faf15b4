"""NoCaps: captions of a model tuned on COCO, for objects that COCO does not have."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluation only."""
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
