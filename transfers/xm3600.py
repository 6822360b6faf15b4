"""XM3600: captions in 36 languages, of a model that was tuned on COCO-35L."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates only; there is no training data."""
    return benchmark(
        "xm3600",
        arg,
        init="ft-coco35l-{res}",
        evals={
            "test": answers(
                "xm3600", "test", {"name": "cider", "key": "language"}, published="xm3600"
            )
        },
        prompt="strfmt('caption {language}', 'prefix')",
        antialias=False,
        text_len=32,
    )
