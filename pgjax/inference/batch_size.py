"""How many examples can be decoded together in the memory that there is."""

import jax

from pgjax.devices.host import free_host_bytes
from pgjax.loading.model_context import ModelContext

PROMPT = 64  # tokens that a prompt is expected to have
_SHARE = 0.7  # of the free memory that a batch may take; the rest is for what is not counted here


def largest_batch_size(context: ModelContext, max_new_tokens: int) -> int:
    """Examples whose decoding fits into the memory that is free beside the loaded parameters.

    Args:
      context: the model on its mesh.
      max_new_tokens: of an answer.

    Returns:
      A multiple of the mesh's `data` axis, at least one example per part of it.
    """
    rows = int(_SHARE * free_bytes() / _example_bytes(context, max_new_tokens))
    return max(1, rows) * context.mesh.shape["data"]


def _example_bytes(context: ModelContext, max_new_tokens: int) -> int:
    """Bytes that one example takes at most: its cache, and the larger of the two towers' layers."""
    model = context.model
    img, llm = model.img_config, model.llm_config
    patches = model.num_patches
    prefill = patches + PROMPT
    total = prefill + max_new_tokens
    cache = 2 * llm.depth * total * llm.num_kv_heads * llm.head_dim * 4
    # Float32 residuals, the hidden layer of the MLP, and attention weights where nothing fuses.
    decoder = 4 * prefill * (4 * llm.width + 3 * llm.mlp_dim + llm.num_heads * total)
    tower = 4 * patches * (4 * img.width + 2 * img.mlp_dim + img.num_heads * patches)
    return cache + max(decoder, tower) + 2 * 4 * llm.vocab_size


def free_bytes() -> int:
    """Free memory of the fullest local device; where devices do not tell, the host's share each."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(s and "bytes_limit" in s for s in stats):
        return min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
    return free_host_bytes() // jax.local_device_count()
