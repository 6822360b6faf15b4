"""POPE: whether things are in a photograph that may not be."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluation only, of a model tuned on VQAv2, asked by the question alone."""
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
