"""FinTabNet: a table of an annual report as HTML, with the box of each cell that has content."""

from pgjax.recipes import answers, benchmark, prepared


def get_config(arg=None):
    """Pads images to squares; published at 896 px. The prompt and the order of tokens are ours."""
    return benchmark(
        "fintabnet",
        arg,
        train=prepared("fintabnet", "train"),
        evals={
            "val": answers("fintabnet", "val", "table_structure"),
            "test": answers("fintabnet", "test", "table_structure", published="fintabnet"),
        },
        prompt="strfmt('table', 'prefix')",
        target="choice_at('answers', 0, 'html')|boxes_to_cells('html')",
        decode="decode|pad_to_square(255)",
        text_len=4096,
        steps=30_000,
        batch_size=256,
        lr=1e-4,
    )
