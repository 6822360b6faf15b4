"""MaRVL: a model tuned on NLVR2, in five languages it was not tuned on."""

from pgjax.recipes import answers, benchmark


def get_config(arg=None):
    """Evaluation only; the prompt says English all the same, as it was published."""
    return benchmark(
        "marvl",
        arg,
        init="ft-nlvr2-{res}",
        evals={"test": answers("marvl", "test_id+test_sw+test_ta+test_tr+test_zh")},
        prompt="strfmt('answer en {question}', 'prefix')",
        antialias=False,
        text_len=64,
    )
