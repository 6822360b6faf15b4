"""A-OKVQA, multiple choice: questions that need knowledge and reasoning."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Lists the choices in the prompt, after two spaces as for the released model."""
    return benchmark(
        "aokvqa_mc",
        arg,
        train=prepared("aokvqa", "train"),
        evals={
            "validation": answers(
                "aokvqa", "validation", "multiple_choice", published="aokvqa_mc_val"
            ),
            "test": answers(
                "aokvqa", "test", "multiple_choice", published="aokvqa_mc", submission="aokvqa_mc"
            ),
        },
        prompt="copy('correct', 'answers')|join('choices', ' \\t ', 'options')"
        "|strfmt('answer en  {question} choose from: {options}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        text_len=128,
        epochs=15,
        batch_size=128,
        lr=5e-6,
    )
