"""TallyQA: simple and complex counting questions."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Counts number words of an answer as digits."""
    return benchmark(
        "tallyqa",
        arg,
        train=prepared("tallyqa", "train"),
        evals={"test": answers("tallyqa", "test", "tallyqa", published="tallyqa")},
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        text_len=32,
        epochs=2,
        batch_size=256,
        lr={224: 1e-5, 448: 1e-5, 896: 7e-6},
        weight_decay={224: 0.0, 448: 1e-6, 896: 7e-7},
    )
