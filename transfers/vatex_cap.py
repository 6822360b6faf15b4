"""VATEX: captions of ten-second videos."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows 16 frames, 7 apart; trains on one of ten captions, drawn anew each time."""
    return benchmark(
        "vatex_cap",
        arg,
        train=prepared("vatex_cap", "train"),
        evals={
            "validation": answers("vatex_cap", "validation", "cider"),
            "test": answers(
                "vatex_cap", "test", "cider", published="vatex_cap", submission="vatex_cap"
            ),
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')",
        antialias=False,
        text_len=64,
        epochs=10,
        batch_size=128,
        lr=3e-6,
        weight_decay=3e-7,
    )
