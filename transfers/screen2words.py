"""Screen2Words: summaries of what a phone's screen is for."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the five summaries, drawn anew each time."""
    return benchmark(
        "screen2words",
        arg,
        train=prepared("screen2words", "train"),
        evals={
            "dev": answers("screen2words", "dev", "cider"),
            "test": answers("screen2words", "test", "cider", published="screen2words"),
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')",
        antialias=False,
        text_len=24,
        epochs=10,
        batch_size=256,
        lr=1e-5,
        label_smoothing=0.2,
        dropout=0.3,
    )
