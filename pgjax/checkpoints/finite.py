"""Finds NaN and infinite values among the parameters that are read."""

import dataclasses
import os
from collections.abc import Mapping

import jax
import numpy as np

from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError, note

ALLOW = "PGJAX_ALLOW_NONFINITE"  # the environment variable that allows them
# Of each dtype, the unsigned integer of its width, the bits without the sign, and the bits of
# infinity; what is larger is NaN.
_BITS = {
    "float32": (np.uint32, 0x7FFF_FFFF, 0x7F80_0000),
    "float16": (np.uint16, 0x7FFF, 0x7C00),
    "bfloat16": (np.uint16, 0x7FFF, 0x7F80),
}
_CHUNK = 2**16  # values that are looked at at a time, so that they stay in the processor's cache


def count_nonfinite(x: np.ndarray) -> int:
    """Returns how many values of an array are NaN or infinite."""
    if str(x.dtype) not in _BITS:
        return int(np.sum(~np.isfinite(x)))
    unsigned, mask, infinity = _BITS[str(x.dtype)]
    flat = np.ascontiguousarray(x).reshape(-1).view(unsigned)
    total = 0
    for i in range(0, flat.size, _CHUNK):
        bits = flat[i : i + _CHUNK] & unsigned(mask)
        if bits.max() >= infinity:
            total += int(np.sum(bits >= infinity))
    return total


@dataclasses.dataclass(frozen=True)
class Checked:
    """A tensor that counts the values which are not finite, as they are read.

    Attributes:
      source: the tensor.
      counts: by the first row of each read, so that rows which are read twice count once.
    """

    source: Tensor
    counts: dict[int, int] = dataclasses.field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the source."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the source."""
        return self.source.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads rows start:stop."""
        x = self.source.read(start, stop)
        if found := count_nonfinite(x):
            self.counts[start] = max(found, self.counts.get(start, 0))
        return x


def refuse_nonfinite(values: Mapping[str, Checked | jax.Array], *, what: str) -> None:
    """Reports the values that were read and are not finite.

    Args:
      values: by name, tensors that have been read, or arrays, of which each process looks at those
        parts that lie on its own devices.
      what: the checkpoint, for messages.

    Raises:
      UserError: there are such values, and $PGJAX_ALLOW_NONFINITE does not allow them.
    """
    counts = {name: _count(x) for name, x in values.items()}
    if not (found := {name: count for name, count in counts.items() if count}):
        return
    names = ", ".join([*found][:3]) + (" and more" if len(found) > 3 else "")
    said = f"{what} holds {sum(found.values())} values that are NaN or infinite, in {names}"
    if not os.environ.get(ALLOW):
        raise UserError(f"{said}; set ${ALLOW}=1 to load it all the same.")
    note(f"{said}.")


def _count(x: Checked | jax.Array) -> int:
    if isinstance(x, Checked):
        return sum(x.counts.values())
    own = [shard.data for shard in x.addressable_shards if shard.replica_id == 0]
    return sum(count_nonfinite(np.asarray(part)) for part in own)
