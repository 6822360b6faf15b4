"""xGQA: a model tuned on GQA, with questions in languages it was not tuned on."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluation only; the prompt and the answers are English, as they were published."""
    return benchmark(
        "xgqa",
        arg,
        init="ft-gqa-{res}",
        evals={
            "testdev": answers(
                "xgqa",
                "+".join(f"testdev_{x}" for x in ["bn", "de", "en", "id", "ko", "pt", "ru", "zh"]),
                {"name": "accuracy_by_type", "key": "language"},
                published="xgqa",
            )
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        antialias=False,
        text_len=32,
    )
