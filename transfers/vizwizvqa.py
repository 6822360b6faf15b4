"""VizWiz: questions of blind people about photographs that they took."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on one of the ten answers, drawn anew each time."""
    return benchmark(
        "vizwizvqa",
        arg,
        train=prepared("vizwizvqa", "train"),
        evals={
            "validation": answers(
                "vizwizvqa",
                "validation",
                {"name": "vqa_accuracy", "leave_one_out": False},
                antialias=False,
                published="vizwizvqa_val",
            ),
            "test": answers(
                "vizwizvqa",
                "test",
                {"name": "vqa_accuracy", "leave_one_out": False},
                antialias=False,
                published="vizwizvqa",
                submission="vizwizvqa",
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=48,
        epochs=10,
        batch_size=256,
        lr=1e-5,
    )
