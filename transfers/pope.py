"""POPE: whether an object is in a photograph, to measure hallucination."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates a model tuned on VQAv2; prompts with the question alone."""
    return benchmark(
        "pope",
        arg,
        init="ft-vqav2-{res}",
        evals={
            split: answers("pope", split, "pope", published=f"pope_{split}")
            for split in ("random", "popular", "adversarial")
        },
        prompt="strfmt('{question}', 'prefix')",
        antialias=False,
        text_len=48,
    )
