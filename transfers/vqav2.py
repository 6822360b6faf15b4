"""VQAv2: questions about photographs.

The end of the validation set is kept for scores. To train on all of it, as the published model was,
add --config.input.data.split=train+validation.
"""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the ten answers, drawn anew each time."""
    return benchmark(
        "vqav2",
        arg,
        train=prepared("vqav2", "train+validation[:-10240]"),
        evals={
            "minival": answers(
                "vqav2", "validation[-10240:]", "vqa_accuracy", published="vqav2_minival"
            ),
            "test": answers("vqav2", "test", "vqa_accuracy", published="vqav2", submission="vqav2"),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=32,
        epochs=10,
        batch_size=256,
        lr=1e-5,
        weight_decay={224: 1e-6, 448: 0.0},
    )
