"""ST-VQA: questions about text in scenes."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Keeps the last tenth of the training set for scores, as there is no validation set."""
    return benchmark(
        "stvqa",
        arg,
        train=prepared("stvqa", "train[:90%]"),
        evals={
            "minival": answers(
                "stvqa", "train[90%:]", {"name": "anls", "lower": True}, published="stvqa_val"
            ),
            "test": answers(
                "stvqa",
                "test",
                {"name": "anls", "lower": True},
                published="stvqa",
                submission="stvqa",
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="lower('answers')|choice('answers', 'suffix')",
        text_len=48,
        epochs=3,
        batch_size={224: 256, 448: 128, 896: 32},
        lr={224: 1e-5, 448: 1e-5, 896: 3e-6},
        weight_decay={224: 1e-6, 448: 1e-6, 896: 3e-7},
        label_smoothing=0.1,
    )
