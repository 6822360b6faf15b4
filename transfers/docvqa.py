"""DocVQA: questions about scanned pages of documents."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Prompts with the question alone."""
    return benchmark(
        "docvqa",
        arg,
        train=prepared("docvqa", "train"),
        evals={
            "validation": answers(
                "docvqa", "validation", {"name": "anls", "lower": True}, published="docvqa_val"
            ),
            "test": answers(
                "docvqa",
                "test",
                {"name": "anls", "lower": True},
                published="docvqa",
                submission="docvqa",
            ),
        },
        prompt="strfmt('{question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=32,
        epochs=10,
        batch_size=256,
        lr=1e-5,
        weight_decay=1e-6,
    )
