"""Text detection and recognition: the words of a scene, each with its box."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """PaliGemma 2's recipe, which is best at res=896; compares boxes, as its paper does.

    `--config.evals.icdar15.metric.protocol=icdar` has the rules of the competition instead.
    """
    metric = {"name": "text_spotting"}
    return benchmark(
        "text_spotting",
        arg,
        train=prepared("text_spotting", "train"),
        evals={
            name: answers("text_spotting", f"{name}_test", metric, published=name)
            for name in ("icdar15", "totaltext")
        },
        prompt="strfmt('ocr', 'prefix')",
        target="choice('answers', 'suffix')",
        text_len=2048,
        steps=15_000,
        batch_size=256,
        lr=1e-5,
        label_smoothing=0.1,
    )
