"""VSR, tested on objects that training has not: whether a statement about their places is true."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Takes rate, decay and length from what PaliGemma 2's paper explored; it states no choice.

    Its 18 tokens are those of an answer; here prompt and answer have to fit.
    """
    return benchmark(
        "vsr_zeroshot",
        arg,
        train=prepared("vsr", "zeroshot_train"),
        evals={
            part: answers(
                "vsr",
                f"zeroshot_{part}",
                published="vsr_zeroshot" if part == "test" else "",
                max_new_tokens=18,
            )
            for part in ("dev", "test")
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=48,
        epochs=15,
        batch_size=1024,
        lr=3e-6,
        weight_decay=3e-7,
    )
