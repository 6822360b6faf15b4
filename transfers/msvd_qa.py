"""MSVD-QA: questions about short videos."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows 8 frames of each video, 26 frames apart."""
    return benchmark(
        "msvd_qa",
        arg,
        train=prepared("msvd_qa", "train"),
        evals={
            "validation": answers("msvd_qa", "validation"),
            "test": answers("msvd_qa", "test", published="msvd_qa"),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        antialias=False,
        text_len=64,
        epochs=1,
        batch_size=128,
        lr=3e-6,
        weight_decay=3e-7,
    )
