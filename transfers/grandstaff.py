"""Optical music recognition: the notes of a system of piano music, in **kern."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """PaliGemma 2's recipe, which is best at res=896; trains on worn copies as well."""
    return benchmark(
        "grandstaff",
        arg,
        train=prepared("grandstaff", "train"),
        evals={
            "validation": answers("grandstaff", "validation", "kern", max_examples=500),
            "test": answers("grandstaff", "test", "kern", published="grandstaff"),
        },
        decode="decode|pad_to_square(255)",
        prompt="strfmt('read music', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=1024,
        steps=30_000,
        batch_size=256,
        lr=1e-4,
        label_smoothing=0.1,
    )
