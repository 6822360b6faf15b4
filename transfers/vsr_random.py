"""VSR, split at random: whether a statement about where objects are is true."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Takes rate, decay and length from what PaliGemma 2's paper explored; it states no choice.

    Its 18 tokens are those of an answer; here prompt and answer have to fit.
    """
    return benchmark(
        "vsr_random",
        arg,
        train=prepared("vsr", "random_train"),
        evals={
            part: answers(
                "vsr",
                f"random_{part}",
                published="vsr_random" if part == "test" else "",
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
