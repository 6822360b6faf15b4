"""Widget Captioning: what an element of a screen, outlined in red, is for."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of its captions, drawn anew each time."""
    return benchmark(
        "widgetcap",
        arg,
        train=prepared("widgetcap", "train"),
        evals={
            "dev": answers("widgetcap", "dev", "cider"),
            "test": answers("widgetcap", "test", "cider", published="widgetcap"),
        },
        paint="outline",
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=32,
        epochs=4,
        batch_size=64,
        lr=3e-6,
        weight_decay=3e-7,
        label_smoothing=0.1,
        dropout=0.1,
    )
