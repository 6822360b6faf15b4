"""ActivityNet Captions: a caption for a part of a long video."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Shows 16 frames, 30 apart, from the start of the part that the caption is about."""
    return benchmark(
        "activitynet_cap",
        arg,
        train=prepared("activitynet_cap", "train"),
        evals={
            "validation": answers("activitynet_cap", "validation", "cider"),
            "test": answers("activitynet_cap", "test", "cider", published="activitynet_cap"),
        },
        prompt="strfmt('caption en', 'prefix')",
        target="choice('answers', 'suffix')",
        antialias=False,
        text_len=64,
        epochs=1,
        batch_size=128,
        lr=1e-5,
        weight_decay=1e-6,
        mode="freeze_vit",
    )
