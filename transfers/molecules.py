"""Molecular structure recognition: the SMILES of a drawn molecule."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """PaliGemma 2's recipe, which is best at res=448: drawings become square in white."""
    return benchmark(
        "molecules",
        arg,
        train=prepared("molecules", "train"),
        evals={"test": answers("molecules", "test", "smiles", published="molecules")},
        decode="decode|pad_to_square(255)",
        prompt="strfmt('read molecule', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=256,
        steps=30_000,
        batch_size=256,
        lr=1e-4,
        label_smoothing=0.1,
    )
