"""NLVR2: whether a statement about two photographs is true."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows two images per example, the tokens of one after those of the other."""
    return benchmark(
        "nlvr2",
        arg,
        train=prepared("nlvr2", "train"),
        evals={"dev": answers("nlvr2", "dev"), "test": answers("nlvr2", "test", published="nlvr2")},
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        antialias=False,
        text_len=64,
        epochs={224: 3, 448: 10},
        batch_size=256,
        lr={224: 1e-5, 448: 3e-6},
        weight_decay={224: 1e-6, 448: 3e-7},
    )
