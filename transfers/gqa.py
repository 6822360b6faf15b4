"""GQA: questions about scenes."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Freezes the image tower at 448 pixels."""
    return benchmark(
        "gqa",
        arg,
        train=prepared("gqa", "train"),
        evals={
            "val": answers("gqa", "val", submission="gqa"),
            "testdev": answers("gqa", "testdev", published="gqa", submission="gqa"),
        },
        prompt="strfmt('answer en {question}', 'prefix')",
        target="choice_at('answers', 0, 'suffix')",
        antialias=False,
        mode={224: "", 448: "freeze_vit"},
        text_len=32,
        epochs=1,
        batch_size=256,
        lr=1e-5,
    )
