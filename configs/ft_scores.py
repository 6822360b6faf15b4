"""The fine-tuned checkpoints of PaliGemma's announcement, on their benchmarks.

Run it by `pgjax evaluate --benchmarks ft_scores`.
"""

from pgjax.recipes import parse_arg

# Benchmark -> the image size and the name of its checkpoint.
TABLE = {
    "vqav2": (448, "vqav2"),
    "cococap": (448, "cococap"),
    "science_qa": (448, "science-qa"),
    "refcoco_seg": (896, "refcoco-seg"),
    "rsvqa_hr": (224, "rsvqa-hr"),
}


def get_config(arg=None):
    """Names the configs to evaluate, as `--benchmarks` takes them."""
    parse_arg(arg)
    return tuple(
        f"{name}:res={res},init=ft-{checkpoint}-{res}" for name, (res, checkpoint) in TABLE.items()
    )
