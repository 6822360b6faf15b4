"""ActivityNet-QA: questions about long videos."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows 16 frames of each video, 70 frames apart."""
    return benchmark(
        "activitynet_qa",
        arg,
        train=prepared("activitynet_qa", "train"),
        evals={
            "validation": answers("activitynet_qa", "validation"),
            "test": answers("activitynet_qa", "test", published="activitynet_qa"),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        antialias=False,
        text_len=64,
        epochs=1,
        batch_size=128,
        lr=1e-5,
        weight_decay=1e-6,
        mode="freeze_vit",
    )
