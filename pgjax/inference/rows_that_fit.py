"""How many rows can be decoded together."""

import jax

from pgjax.devices.host import free_host_bytes
from pgjax.loading.model_context import ModelContext

PROMPT = 64  # tokens that a prompt is expected to have
_SHARE = 0.7  # of the free memory that a batch may take; the rest is for what is not counted here


def rows_that_fit(context: ModelContext, max_new_tokens: int, image_tokens: int = 0) -> int:
    """Rows whose decoding fits into the memory that is free beside the loaded parameters.

    Args:
      context: whose model and mesh count.
      max_new_tokens: of an answer.
      image_tokens: of a row; 0 for one image.

    Returns:
      At least 1.
    """
    rows = _SHARE * _free_bytes() / row_bytes(context, max_new_tokens, image_tokens)
    return max(1, int(rows)) * context.mesh.shape["data"]


def row_bytes(context: ModelContext, max_new_tokens: int, image_tokens: int = 0) -> int:
    """Bytes that one row takes at most: its cache, and the larger of the two towers' layers."""
    model = context.model
    img, llm = model.img_config, model.llm_config
    patches = model.num_patches
    images = max(1, image_tokens // patches)
    prefill = images * patches + PROMPT
    total = prefill + max_new_tokens
    cache = 2 * llm.depth * total * llm.num_kv_heads * llm.head_dim * 4
    # Float32 residuals, the hidden layer of the MLP, and attention weights where nothing fuses.
    decoder = 4 * prefill * (4 * llm.width + 3 * llm.mlp_dim + llm.num_heads * total)
    tower = 4 * images * patches * (4 * img.width + 2 * img.mlp_dim + img.num_heads * patches)
    return cache + max(decoder, tower) + 2 * 4 * llm.vocab_size


def _free_bytes() -> int:
    """Of the fullest local device; on a CPU, of the host."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(s and "bytes_limit" in s for s in stats):
        return min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
    return free_host_bytes() // jax.local_device_count()
