"""DocLayNet: the boxes and classes of all parts of a page."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Lists up to 100 parts. The paper states prompt and epochs."""
    return benchmark(
        "doclaynet",
        arg,
        train=prepared("doclaynet", "train"),
        evals={
            "val": answers("doclaynet", "val", "mean_average_precision"),
            "test": answers("doclaynet", "test", "mean_average_precision", published="doclaynet"),
        },
        prompt="strfmt('detect all classes', 'prefix')",
        target="boxes_to_loc",
        text_len=932,
        epochs=50,
        batch_size=256,
        lr=1e-5,
    )
