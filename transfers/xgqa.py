"""xGQA: questions about scenes in eight languages, of a model that was tuned on GQA."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluates only; the prompt and the answers are English, as they were published."""
    return benchmark(
        "xgqa",
        arg,
        init="ft-gqa-{res}",
        evals={
            "testdev": answers(
                "xgqa",
                "+".join(f"testdev_{x}" for x in ["bn", "de", "en", "id", "ko", "pt", "ru", "zh"]),
                {"name": "accuracy_by_type", "key": "language", "apart": "en"},
                published="xgqa",
            )
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        antialias=False,
        text_len=32,
    )
