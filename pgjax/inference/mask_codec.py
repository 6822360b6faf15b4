"""The codec of segmentation tokens: a VQ-VAE between masks of 64 x 64 pixels and 16 codes."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.checkpoints.locate import find_mask_codec
from pgjax.checkpoints.npz import open_arrays
from pgjax.data.masks import Box, paste_mask
from pgjax.errors import UserError
from pgjax.models import vqvae


class MaskCodec:
    """Encodes masks as 16 codes each, and decodes them."""

    def __init__(self, params: Mapping[str, np.ndarray | jax.Array]) -> None:
        """Keeps the parameters, a few megabytes, in float32."""
        self._params = {name: jnp.asarray(x, jnp.float32) for name, x in params.items()}
        self._encode, self._decode = jax.jit(vqvae.encode), jax.jit(vqvae.decode)

    def encode(self, mask: np.ndarray) -> tuple[int, ...]:
        """Encodes a mask, float32 [64,64] in 0..1, as 16 codes."""
        return tuple(np.asarray(self._encode(self._params, mask[None]))[0].tolist())

    def decode(self, codes: Sequence[int]) -> np.ndarray:
        """Decodes 16 codes to float32 [64,64], which is positive inside of the mask."""
        return np.asarray(self._decode(self._params, np.asarray([codes], np.int32)))[0]

    def draw(self, codes: Sequence[int], box: Box, size: tuple[int, int]) -> np.ndarray:
        """Decodes 16 codes to a mask of the image, bool [H,W].

        Args:
          codes: of the mask.
          box: (y0, x0, y1, x1) in 0..1, in which the mask lies.
          size: height and width of the image in pixels.
        """
        return paste_mask(self.decode(codes), box, size)


def open_codec(*, tiny: bool) -> MaskCodec:
    """Opens the codec of the tiny model, which ships with pgjax, or the released one.

    Raises:
      UserError: the released one is not found, or its arrays do not fit the architecture.
    """
    path = find_mask_codec(tiny)
    stored = open_arrays(path)
    first, codebook = "encoder.0.weight", vqvae.CODEBOOK
    if first not in stored or codebook not in stored:
        raise UserError(f"Mask codec {path}: expected {first} and {codebook} among its arrays.")
    widths = tuple(
        stored[f"encoder.{2 * i}.weight"].shape[0]
        for i in range(4)
        if f"encoder.{2 * i}.weight" in stored
    )
    num_codes, code_dim = stored[codebook].shape
    shapes = vqvae.shapes(widths, code_dim, num_codes)
    expected = {k: jax.ShapeDtypeStruct(shape, jnp.float32) for k, shape in shapes.items()}
    trees.check_same(expected, stored, what=f"Mask codec {path}")
    return MaskCodec({name: tensor.read() for name, tensor in stored.items()})
