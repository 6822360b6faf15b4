"""A-OKVQA, direct answers: questions that need knowledge and reasoning."""

from pgjax.recipes import answers, benchmark, prepared

METRIC = {
    "name": "vqa_accuracy",
    "leave_one_out": False,
    "leave_out": "difficult_direct_answer",
}


def get_config(arg=None):
    """Trains on one of the ten answers, drawn anew each time."""
    return benchmark(
        "aokvqa_da",
        arg,
        train=prepared("aokvqa", "train"),
        evals={
            "validation": answers("aokvqa", "validation", METRIC, published="aokvqa_da_val"),
            "test": answers(
                "aokvqa", "test", METRIC, published="aokvqa_da", submission="aokvqa_da"
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=32,
        epochs=10,
        batch_size=128,
        lr=5e-6,
    )
