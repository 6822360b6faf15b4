"""MIMIC-CXR: reports of radiographs of the chest."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Prompts with the indication, the order of tokens is ours; published at 896 px."""
    return benchmark(
        "mimic_cxr",
        arg,
        train=prepared("mimic_cxr", "train"),
        evals={
            "validate": answers("mimic_cxr", "validate", "radiology_report"),
            "test": answers("mimic_cxr", "test", "radiology_report", published="mimic_cxr"),
        },
        prompt="strfmt('INDICATION: {indication}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        text_len=512,
        epochs=8,
        batch_size=256,
        lr=5e-6,
    )
