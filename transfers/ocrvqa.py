"""OCR-VQA: questions about book covers."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Keeps the first part of the large validation set for scores."""
    return benchmark(
        "ocrvqa",
        arg,
        train=prepared("ocrvqa", "train+validation[20000:]"),
        evals={
            "minival": answers(
                "ocrvqa", "validation[:20000]", {"name": "exact_match", "lower": True}
            ),
            "test": answers(
                "ocrvqa", "test", {"name": "exact_match", "lower": True}, published="ocrvqa"
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        text_len=32,
        epochs=3,
        batch_size=128,
        lr={224: 3e-6, 448: 3e-6, 896: 1e-5},
    )
