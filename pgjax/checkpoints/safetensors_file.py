"""Reads and writes safetensors files."""

import dataclasses
import pathlib
import stat
from collections.abc import Mapping

import numpy as np

from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A tensor of a safetensors file, which is mapped into memory only while it is read."""

    path: pathlib.Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        from safetensors import safe_open

        with safe_open(self.path, "np") as f:
            return f.get_slice(self.name)[start:stop] if self.shape else f.get_tensor(self.name)


def open_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Opens a safetensors file and reads its header.

    Raises:
      UserError: the file is not readable, or holds a tensor that is not float32, float16 or
        bfloat16.
    """
    from safetensors import SafetensorError, safe_open

    stored: dict[str, Tensor] = {}
    try:
        with safe_open(path, "np") as f:
            for name in f.keys():  # noqa: SIM118 (this is not a dict)
                x = f.get_slice(name)
                dtype = _DTYPES.get(x.get_dtype())
                if dtype is None:
                    raise UserError(
                        f"{path}: the tensor {name} is {x.get_dtype()}, expected one of "
                        f"{', '.join(_DTYPES)}."
                    )
                stored[name] = _Stored(path, name, tuple(x.get_shape()), np.dtype(dtype))
    except (SafetensorError, OSError) as e:
        raise UserError(
            f"{path} is not a readable safetensors file ({e}); it may be truncated."
        ) from None
    return stored


def save_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file with the mode that the user's umask gives to new files.

    Raises:
      OSError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file(dict(arrays), path, metadata={"format": "pt"})  # gives a new file the mode 0600
    except SafetensorError as e:
        raise OSError(str(e)) from None
    path.chmod(mode)
