"""SciCap: first sentences of the captions of scientific figures that have no subfigures."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Learns the published captions in lower case, without the figure's number."""
    return benchmark(
        "scicap",
        arg,
        train=prepared("scicap", "train"),
        evals={
            "validation": answers("scicap", "validation", {"name": "cider", "bleu": True}),
            "test": answers("scicap", "test", {"name": "cider", "bleu": True}, published="scicap"),
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        antialias=False,
        text_len=96,
        epochs=80,
        batch_size=256,
        lr=3e-5,
        label_smoothing=0.1,
        dropout=0.1,
    )
