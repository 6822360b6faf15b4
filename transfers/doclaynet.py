"""DocLayNet: the boxes and classes of all parts of a page."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Lists 100 parts, of which noise boxes fill up the targets.

    The paper states prompt, epochs and noise boxes, and no other number.
    """
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
        objects=100,
        epochs=50,
        batch_size=256,
        lr=1e-5,
    )
