"""MaRVL: statements about two photographs in five languages, of a model tuned on NLVR2."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates only; the prompt says English for every language, as it was published."""
    return benchmark(
        "marvl",
        arg,
        init="ft-nlvr2-{res}",
        evals={
            "test": answers(
                "marvl",
                "+".join(f"test_{language}" for language in ("id", "sw", "ta", "tr", "zh")),
                {"name": "accuracy_by_type", "key": "language"},
                published="marvl",
            )
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        antialias=False,
        text_len=64,
    )
