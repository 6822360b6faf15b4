"""MMVP: questions that tell apart images that look alike to an encoder."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluation only, of a model tuned on VQAv2. Its prompt is not published; this has choices."""
    return benchmark(
        "mmvp",
        arg,
        init="ft-vqav2-{res}",
        evals={"test": answers("mmvp", "test", "mmvp", published="mmvp")},
        prompt="join('choices', ' \\t ', 'options')"
        "|strfmt('answer en {question} choose from: {options}', 'prefix')",
        text_len=128,
    )
