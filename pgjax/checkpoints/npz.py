"""Released parameter files: plain `.npz` with every key under `params/`."""

import dataclasses
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np
from etils import epath

from pgjax.checkpoints.tensors import Tensor, aligned
from pgjax.errors import UserError

PREFIX = "params/"
BASE = "delta/base"  # of a delta: the name of the checkpoint that it goes on top of
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # APPNOTE.TXT 4.3.7: signature, lengths of name and extra


@dataclasses.dataclass
class NpzTensor:
    """An array stored uncompressed in an `.npz`, read at its place in the file."""

    path: epath.Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    header_crc: int  # of the bytes before the array, where the checksum begins
    crc: int  # of the whole member
    _summed: tuple[int, int] | None = None  # rows read in order so far, and their checksum

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start:stop; the checksum is compared once all rows were read in order.

        Raises:
          UserError: the file ends early, or does not have its checksum.
        """
        rows = self.shape[0] if self.shape else 1
        start, stop, _ = slice(start, stop).indices(rows)
        shape = (stop - start, *self.shape[1:]) if self.shape else ()
        # Read as bytes, because buffers know nothing of bfloat16.
        data = aligned([int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize], np.uint8)
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        with self.path.open("rb") as f:
            f.seek(self.offset + start * row_bytes)
            if f.readinto(memoryview(data)) != data.nbytes:
                raise UserError(f"Checkpoint {self.path} ends early; it may be truncated.")
        self._check(start, stop, rows, data)
        return data.view(self.dtype).reshape(shape)

    def _check(self, start: int, stop: int, rows: int, data: np.ndarray) -> None:
        if start == 0:
            self._summed = (0, self.header_crc)
        if self._summed and self._summed[0] == start:
            self._summed = (stop, zlib.crc32(data, self._summed[1]))
            if stop == rows and self._summed[1] != self.crc:
                raise UserError(
                    f"Checkpoint {self.path} is not a readable .npz file (wrong checksum); it may "
                    "be truncated or damaged."
                )


@dataclasses.dataclass
class _Unpacked:
    """An array that has to be read whole: compressed, or in Fortran order."""

    path: epath.Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of the whole array."""
        try:
            with self.path.open("rb") as f, np.load(f, allow_pickle=False) as arrays:
                x = _as_bfloat16(arrays[self.key])
        except Exception as e:
            raise _unreadable(self.path, e) from None
        return x[start:stop] if x.ndim else x


def open_npz(path: os.PathLike | str) -> dict[str, Tensor]:
    """Opens a parameter file; only headers are read.

    bfloat16 arrays are stored as raw 2-byte void and are reinterpreted.

    Args:
      path: local or remote file.

    Returns:
      `{"img/…": tensor}` in the file's dtypes.

    Raises:
      UserError: missing, truncated or pickled file, or one that holds no `params/` keys.
    """
    path = epath.Path(path)
    tensors = open_arrays(path)
    tensors.pop(BASE, None)
    if not tensors or not all(key.startswith(PREFIX) for key in tensors):
        raise UserError(
            f"Checkpoint {path}: expected every key under {PREFIX!r}, found "
            f"{sorted(tensors)[:3] or 'no key at all'}."
        )
    return {key.removeprefix(PREFIX): x for key, x in tensors.items()}


def open_arrays(path: os.PathLike | str) -> dict[str, Tensor]:
    """Opens any `.npz`, in the same manner."""
    path = epath.Path(path)
    if not path.is_file():
        raise UserError(f"Checkpoint {path} does not exist.")
    try:
        with path.open("rb") as f, zipfile.ZipFile(f) as members:
            return dict(_open_member(path, f, members, info) for info in members.infolist())
    except Exception as e:  # zipfile, struct and numpy raise whatever damaged bytes lead them to
        raise _unreadable(path, e) from None


def base_of(path: os.PathLike | str) -> str | None:
    """The base of a delta (see `write_delta`), or None for a whole checkpoint."""
    tensor = open_arrays(path).get(BASE)
    return None if tensor is None else tensor.read().tobytes().decode()


def read_npz(path: os.PathLike | str) -> dict[str, np.ndarray]:
    """Reads a whole parameter file; see `open_npz`."""
    return {name: tensor.read() for name, tensor in open_npz(path).items()}


def write_npz(path: os.PathLike | str, flat: Mapping[str, np.ndarray | Tensor]) -> None:
    """Writes a flat parameter dict so that the file appears whole or not at all.

    Args:
      path: local or remote file.
      flat: arrays, or tensors that are read one after the other.

    Raises:
      UserError: the file cannot be written.
    """
    write_arrays(path, ((PREFIX + name, x) for name, x in flat.items()))


def write_delta(
    path: os.PathLike | str, flat: Mapping[str, np.ndarray | Tensor], base: str
) -> None:
    """Writes some parameters that replace those of a checkpoint called `base`."""
    name = np.frombuffer(base.encode(), np.uint8)
    write_arrays(path, [(BASE, name), *((PREFIX + key, x) for key, x in flat.items())])


def write_arrays(
    path: os.PathLike | str, arrays: Iterable[tuple[str, np.ndarray | Tensor]]
) -> None:
    """Writes any named arrays, in the same manner."""
    path = epath.Path(path)
    part = path.parent / f"{path.name}.part"
    try:
        with part.open("wb") as f, zipfile.ZipFile(f, "w") as members:
            for name, x in arrays:
                x = np.asarray(x.read() if hasattr(x, "read") else x)
                with members.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, _as_void(x), allow_pickle=False)
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise UserError(f"Checkpoint {path} could not be written ({e}).") from None


def _open_member(
    path: epath.Path, f, members: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[str, Tensor]:
    key = info.filename.removesuffix(".npy")
    with members.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(member)
    if dtype.hasobject:
        raise ValueError(f"{key} is a pickled object")
    if info.compress_type != zipfile.ZIP_STORED or (fortran and len(shape) > 1):
        return key, _Unpacked(path, key, shape, _bfloat16_if_void(dtype))
    f.seek(info.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(f.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError(f"{key} is not where the file says")
    begin = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    header = info.file_size - size
    if not 0 < header < 2**16:
        raise ValueError(f"{key} does not have the size of its shape")
    f.seek(begin)
    crc = zlib.crc32(f.read(header))
    return key, NpzTensor(path, shape, _bfloat16_if_void(dtype), begin + header, crc, info.CRC)


def _bfloat16_if_void(dtype: np.dtype) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else dtype


def _as_bfloat16(x: np.ndarray) -> np.ndarray:
    return x.view(_bfloat16_if_void(x.dtype))


def _as_void(x: np.ndarray) -> np.ndarray:
    return x.view("V2") if x.dtype == ml_dtypes.bfloat16 else x


def _unreadable(path: epath.Path, e: Exception) -> UserError:
    return UserError(
        f"Checkpoint {path} is not a readable .npz file ({str(e) or type(e).__name__}); "
        "it may be truncated."
    )
