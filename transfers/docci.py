"""DOCCI: descriptions of photographs in several sentences."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Among the numbers that PaliGemma's paper suggests for new tasks; PaliGemma 2's states none.

    Its score, NES, is what people say of each sentence; `qual_dev` has the photographs, and
    perplexity on `test` is what the authors choose runs by.
    """
    return benchmark(
        "docci",
        arg,
        train=prepared("docci", "train"),
        evals={
            "perplexity": {"kind": "perplexity", "data": prepared("docci", "test")},
            "qual_dev": answers(
                "docci", "qual_dev", "long_captions", published="docci", max_new_tokens=192
            ),
        },
        prompt="strfmt('describe en', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=512,
        epochs=10,
        batch_size=256,
        lr=1e-5,
    )
