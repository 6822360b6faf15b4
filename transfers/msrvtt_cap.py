"""MSR-VTT: captions of short videos."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows 16 frames, 9 apart; trains on one of about 20 captions, drawn anew each time."""
    return benchmark(
        "msrvtt_cap",
        arg,
        train=prepared("msrvtt_cap", "train"),
        evals={
            "validation": answers("msrvtt_cap", "validation", "cider"),
            "test": answers("msrvtt_cap", "test", "cider", published="msrvtt_cap"),
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')",
        antialias=False,
        text_len=32,
        epochs=20,
        batch_size=128,
        lr=1e-5,
        mode="freeze_vit",
    )
