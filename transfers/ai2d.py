"""AI2D: multiple-choice questions about diagrams."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Keeps the end of the training set for scores."""
    return benchmark(
        "ai2d",
        arg,
        train=prepared("ai2d", "train[:-1024]"),
        evals={
            "minival": answers("ai2d", "train[-1024:]", "multiple_choice", antialias=False),
            "test": answers("ai2d", "test", "multiple_choice", published="ai2d", antialias=False),
        },
        prompt="join('choices', ' \\t ', 'options')"
        "|strfmt('answer en  {question} choose from: {options}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        text_len=128,
        epochs=10,
        batch_size=256,
        lr=1e-5,
        weight_decay=1e-6,
    )
