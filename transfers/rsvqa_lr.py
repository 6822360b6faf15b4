"""RSVQA-LR: questions about satellite images, except those that ask for numbers."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Scores the mean of comparison and presence; "rural or urban?" is listed beside it."""
    metric = {"name": "accuracy_by_type", "exclude": ("rural_urban",), "lower": True}
    return benchmark(
        "rsvqa_lr",
        arg,
        train=prepared("rsvqa_lr", "train"),
        evals={
            "validation": answers("rsvqa_lr", "validation", metric, antialias=False),
            "test": answers("rsvqa_lr", "test", metric, published="rsvqa_lr", antialias=False),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="lower('answers')|choice('answers', 'suffix')",
        text_len=32,
        epochs=3,
        batch_size=256,
        lr=3e-6,
        label_smoothing=0.2,
    )
