"""InfographicVQA: questions about infographics."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Learns and compares answers in lower case."""
    return benchmark(
        "infovqa",
        arg,
        train=prepared("infovqa", "train"),
        evals={
            "validation": answers(
                "infovqa", "validation", {"name": "anls", "lower": True}, published="infovqa_val"
            ),
            "test": answers(
                "infovqa",
                "test",
                {"name": "anls", "lower": True},
                published="infovqa",
                submission="infovqa",
            ),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="lower('answers')|choice('answers', 'suffix')",
        text_len=48,
        epochs=3,
        batch_size={224: 256, 448: 128, 896: 32},
        lr={224: 1e-5, 448: 1e-5, 896: 3e-6},
        weight_decay={224: 1e-6, 448: 1e-6, 896: 3e-7},
        label_smoothing=0.4,
    )
