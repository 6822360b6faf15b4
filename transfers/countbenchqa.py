"""CountBenchQA: counts of two to ten objects, of a model that was tuned on TallyQA."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates only; there is no training data."""
    return benchmark(
        "countbenchqa",
        arg,
        init="ft-tallyqa-{res}",
        evals={
            "test": answers("countbenchqa", "test", "counting", published="countbenchqa"),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        text_len=32,
    )
