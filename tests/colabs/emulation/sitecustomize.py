"""Makes the released variants small in every Python process that has this folder on its path."""

import dataclasses

try:
    from pgjax.benchmarks.readers import ai2d
    from pgjax.models.variants import SiglipConfig
    from pgjax.registry import DECODER_VARIANTS, IMAGE_VARIANTS
except ImportError:  # not a process that can use pgjax
    pass
else:
    for _name in ("gemma_2b", "gemma2_2b"):
        DECODER_VARIANTS._entries[_name] = dataclasses.replace(
            DECODER_VARIANTS[_name], width=32, depth=2, mlp_dim=64, num_heads=4, num_kv_heads=1,
            head_dim=8, vocab_size=1664,
        )  # fmt: skip
    IMAGE_VARIANTS._entries["So400m/14"] = SiglipConfig(32, 2, 64, 2, patch_size=(28, 28))
    ai2d.READER.splits["test"] = None  # the fixture has fewer questions
