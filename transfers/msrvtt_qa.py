"""MSRVTT-QA: questions about short videos."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows 16 frames of each video, 9 frames apart."""
    return benchmark(
        "msrvtt_qa",
        arg,
        train=prepared("msrvtt_qa", "train"),
        evals={
            "validation": answers("msrvtt_qa", "validation"),
            "test": answers("msrvtt_qa", "test", published="msrvtt_qa"),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        antialias=False,
        text_len=64,
        epochs=1,
        batch_size=128,
        lr=1e-5,
        mode="freeze_vit",
    )
