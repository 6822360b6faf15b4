"""OK-VQA: questions about photographs that need knowledge of the world."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the ten answers, drawn anew each time."""
    return benchmark(
        "okvqa",
        arg,
        train=prepared("okvqa", "train"),
        evals={
            "validation": answers(
                "okvqa",
                "validation",
                {"name": "vqa_accuracy", "leave_one_out": False},
                published="okvqa",
                submission="okvqa",
            )
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=32,
        epochs=10,
        batch_size=128,
        lr=5e-6,
    )
