"""What is measured at each size of the kit."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Training:
    """One training step to measure."""

    name: str
    mode: str
    res: int  # pixels
    batch: int
    remat: str


@dataclasses.dataclass(frozen=True)
class Heads:
    """One shape of attention to check."""

    name: str
    rows: int
    queries: int
    heads: int
    kv_heads: int
    head_dim: int
    text: int = 0  # of the queries, the last ones, which are causal; 0: everything sees everything
    softcap: float = 0.0
    dtype: str = "bfloat16"
    padding: int = 0  # columns at the end of the last row that nobody attends to


@dataclasses.dataclass(frozen=True)
class Size:
    """All of it."""

    name: str
    text: int  # tokens of a training example
    target: int  # of them, at the end, that are supervised
    steps: int  # timed
    train: tuple[Training, ...]
    t4: Training
    batches: tuple[int, ...]  # of answers
    tokens: int  # of an answer
    peer_batches: tuple[int, ...]  # of training with transformers, the first that fits is measured
    peer_answers: tuple[int, ...]
    attention: tuple[Heads, ...]
    golden: tuple[tuple[str, ...], ...]  # groups of check_golden.py, by process
    product: tuple[int, int]  # width and hidden size of the quantized MLP
    loss: tuple[int, int, int, int]  # rows, tokens, width, vocabulary
    copied: int  # bytes, to measure the bandwidth
    multiplied: int  # side of the matrices, to measure the arithmetic
    workers: int  # programs compiled at a time before anything is measured; 0: none beforehand


def _training(res: int, batch: int, big: tuple[int, int], bigger: tuple[int, int]) -> tuple:
    return (
        Training("full", "full", res, batch, "full"),
        Training("full, remat dots", "full", res, batch, "dots"),
        Training("lora", "lora", res, batch, "dots"),
        Training("qlora", "qlora", res, batch, "dots"),
        Training("attention", "attention", res, batch, "full"),
        Training("full", "full", *big, "full"),
        Training("full", "full", *bigger, "full"),
    )


def _attention(tower, decoder, texts, tower_tokens, decoder_tokens) -> tuple[Heads, ...]:
    """Each tower's shapes in half precision, and its first one in float32 too."""
    heads, size = tower
    towers = [Heads("tower", r, t, heads, heads, size) for r, t in tower_tokens]
    heads, kv, size = decoder
    pairs = zip(decoder_tokens, texts, strict=True)
    decoders = [Heads("decoder", r, t, heads, kv, size, text) for (r, t), text in pairs]
    first = decoders[0]
    return (
        *towers,
        *decoders,
        dataclasses.replace(first, name="decoder, padded", padding=first.text // 2),
        dataclasses.replace(decoders[1], name="decoder, soft cap 50", kv_heads=4, softcap=50.0),
        dataclasses.replace(towers[0], dtype="float32"),
        dataclasses.replace(first, dtype="float32"),
    )


_HEADS = _attention((4, 24), (4, 1, 24), (16, 16), ((2, 64),), ((2, 80), (2, 81)))

SIZES = {
    # A rehearsal: one case or two of each part.
    "tiny": Size(
        name="tiny", text=16, target=8, steps=2,
        train=tuple(_training(64, 2, (128, 1), (192, 1))[i] for i in (0, 3, 5)),
        t4=Training("attention", "attention", 64, 2, "full"),
        batches=(1, 3), tokens=9, peer_batches=(2, 1), peer_answers=(1,),
        attention=_HEADS[2:4], golden=(("forward",),),
        product=(128, 256), loss=(3, 16, 96, 1664),
        copied=2**24, multiplied=256, workers=0,
    ),
    "mid": Size(
        name="mid", text=64, target=16, steps=3,
        train=_training(224, 4, (448, 1), (448, 2)),
        t4=Training("attention", "attention", 224, 2, "full"),
        batches=(1, 8), tokens=17, peer_batches=(4, 2), peer_answers=(1, 8),
        attention=_HEADS, golden=(("forward", "loss", "decode"),),
        product=(512, 2048), loss=(2, 32, 512, 257_152),
        copied=2**27, multiplied=1024, workers=0,
    ),
    "3b": Size(
        name="3b", text=128, target=32, steps=5,
        train=_training(224, 32, (448, 8), (896, 2)),
        t4=Training("attention", "attention", 224, 8, "full"),
        batches=(1, 8, 64), tokens=65, peer_batches=(32, 16, 8), peer_answers=(1, 8),
        # 320 = 256 + 64 tokens: where cuDNN's masked kernel has given NaN gradients of queries.
        attention=_attention(
            (16, 72), (8, 1, 256), (64, 128, 128),
            ((4, 256), (1, 4096)), ((4, 320), (2, 1152), (1, 4224)),
        ),
        golden=(
            ("forward", "decode", "token masks", "bfloat16 cache", "other files"),
            ("beam",),
            ("loss", "adam"),
            ("sgd (T4 recipe)",),
        ),
        product=(2048, 16384), loss=(2, 128, 2048, 257_152),
        copied=2**32, multiplied=8192, workers=6,
    ),
}  # fmt: skip
