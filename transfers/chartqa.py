"""ChartQA: questions about charts, written by people or generated from summaries."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Trains on 7,398 human and 20,901 generated questions; the score is the mean of the two."""
    return benchmark(
        "chartqa",
        arg,
        train=prepared("chartqa", "train_human+train_augmented"),
        evals={
            part: answers(
                "chartqa",
                f"{part}_human+{part}_augmented",
                {"name": "accuracy_by_type", "metric": "relaxed_accuracy", "lower": True},
                published="chartqa" if part == "test" else "",
            )
            for part in ("val", "test")
        },
        prompt="strfmt('{question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        text_len=48,
        epochs=30,
        batch_size=256,
        lr=1e-5,
        weight_decay=1e-6,
        label_smoothing=0.2,
        dropout=0.1,
    )
