"""CountBenchQA: a model tuned on TallyQA, with other images of two to ten things."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluation only."""
    return benchmark(
        "countbenchqa",
        arg,
        init="ft-tallyqa-{res}",
        evals={"test": answers("countbenchqa", "test", "counting")},
        prompt="strfmt('answer en {question}', 'prefix')",
        text_len=32,
    )
