"""MMVP: questions about pairs of images that an image encoder confuses."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates a model tuned on VQAv2; its prompt is not published, this one lists the choices."""
    return benchmark(
        "mmvp",
        arg,
        init="ft-vqav2-{res}",
        evals={"test": answers("mmvp", "test", "mmvp", published="mmvp")},
        prompt="join('choices', ' \\t ', 'options')"
        "|strfmt('answer en {question} choose from: {options}', 'prefix')",
        text_len=128,
    )
