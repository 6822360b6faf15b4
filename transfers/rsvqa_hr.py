"""RSVQA-HR: questions about aerial images, except those that ask for numbers."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Scores the mean over types of questions."""
    metric = {"name": "accuracy_by_type", "lower": True}
    return benchmark(
        "rsvqa_hr",
        arg,
        train=prepared("rsvqa_hr", "train"),
        evals={
            "validation": answers("rsvqa_hr", "validation", metric, antialias=False),
            "test": answers("rsvqa_hr", "test", metric, published="rsvqa_hr", antialias=False),
            "test2": answers(
                "rsvqa_hr", "test2", metric, published="rsvqa_hr_test2", antialias=False
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="lower('answers')|choice('answers', 'suffix')",
        text_len=32,
        epochs=1,
        batch_size=256,
        lr=1e-5,
    )
