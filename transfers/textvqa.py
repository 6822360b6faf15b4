"""TextVQA: questions about text in photographs."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the ten answers; `pgjax prepare` has turned rotated images upright."""
    return benchmark(
        "textvqa",
        arg,
        train=prepared("textvqa", "train"),
        evals={
            "validation": answers("textvqa", "validation", "textvqa", published="textvqa_val"),
            "test": answers(
                "textvqa", "test", "textvqa", published="textvqa", submission="textvqa"
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=32,
        epochs={224: 5, 448: 10, 896: 10},
        batch_size=256,
        lr=3e-6,
        weight_decay={224: 0.0, 448: 3e-7, 896: 0.0},
    )
