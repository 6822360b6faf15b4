"""COCO-35L: captions of photographs in 35 languages, in equal shares."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one caption of an image, and so in one language, drawn anew each time."""
    return benchmark(
        "coco35l",
        arg,
        train=prepared("coco35l", "train"),
        evals={
            "dev": answers(
                "coco35l",
                "dev",
                {"name": "cider", "key": "language"},
                published="coco35l",
                prompt="strfmt('caption {language}', 'prefix')",
            )
        },
        prompt="choice(('languages', 'answers'), ('language', 'suffix'))"
        "|strfmt('caption {language}', 'prefix')",
        antialias=False,
        text_len=32,
        # Five passes over the 566,435 captions of one language.
        steps=5 * 566_435 // 256,
        batch_size=256,
        lr=1e-5,
        weight_decay=1e-6,
    )
