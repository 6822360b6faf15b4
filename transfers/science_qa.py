"""ScienceQA: multiple-choice questions of school science that come with an image."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shuffles the choices in training, and freezes the image tower."""
    return benchmark(
        "science_qa",
        arg,
        train=prepared("science_qa", "train"),
        evals={
            "validation": answers("science_qa", "validation", "science_qa"),
            "test": answers("science_qa", "test", "science_qa", published="science_qa"),
        },
        augment="shuffle_choices",
        prompt="letter_choices|strfmt('Question: {question}\\nContext: {hint}\\n"
        "Options: {options}\\nAnswer:', 'prefix')",
        target="strfmt('The answer is {letter}.', 'suffix')",
        antialias=False,
        mode="freeze_vit",
        text_len=512,
        epochs=20,
        batch_size=128,
        lr=1e-5,
    )
