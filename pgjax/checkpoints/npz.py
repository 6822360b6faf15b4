"""Reads and writes parameter files: plain `.npz` archives with every key under `params/`.

Files of big_vision are read as big_vision reads them: where keys lie under `params/`, those are the
parameters and all others (`opt/…`, `step`) are passed over; an older file has them under
`opt/target/`; else every key is a parameter, as in what its fine-tuning notebook saves. A file may
lie in parts, see `split_file`.
"""

import dataclasses
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, cast

import ml_dtypes
import numpy as np
from etils import epath

from pgjax.checkpoints.base_checkpoint import BaseRecord
from pgjax.checkpoints.split_file import open_file
from pgjax.checkpoints.tensors import SLICE_BYTES, Converted, InMemory, Tensor, empty_aligned
from pgjax.errors import UserError

PREFIX = "params/"
_PREFIXES = (PREFIX, "opt/target/", "")  # the first one that any key has
_FLOATS = ("float32", "bfloat16", "float16", "float64")
_SPEC_KEYS = ("final_softcap",)
_SPEC = "spec/"  # under which a file says what shapes do not tell of its model, see `write_npz`
_DELTA = "delta/"  # under which a delta describes its base, see `write_delta`
# The local file header of the zip format (APPNOTE.TXT, section 4.3.7).
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra


@dataclasses.dataclass
class NpzTensor:
    """An array that an `.npz` stores uncompressed, so that its rows can be read alone.

    Attributes:
      path: the file, or one of its parts.
      shape: the shape of the array.
      dtype: the dtype of the array.
      offset: where the array begins in the file, in bytes.
      header_crc: the CRC-32 of the member's header, which the member's checksum includes.
      crc: the CRC-32 of the whole member.
    """

    path: epath.Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    header_crc: int
    crc: int
    # The number of rows that were read in order so far, and the checksum up to there.
    _summed: tuple[int, int] | None = None

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads rows start:stop, and verifies the checksum once all rows were read in order.

        Raises:
          UserError: the file ends early, or its checksum is wrong.
        """
        rows = self.shape[0] if self.shape else 1
        start, stop, _ = slice(start, stop).indices(rows)
        shape = (stop - start, *self.shape[1:]) if self.shape else ()
        # Python's buffers do not support bfloat16, so the rows are read as bytes.
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        data = empty_aligned([size], np.uint8)
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        with cast(io.BufferedIOBase, open_file(self.path)) as f:
            f.seek(self.offset + start * row_bytes)
            if f.readinto(data.data) != size:
                raise UserError(f"Checkpoint {self.path} ends early; it may be truncated.")
        self._check(start, stop, rows, data)
        return data.view(self.dtype).reshape(shape)

    def _check(self, start: int, stop: int, rows: int, data: np.ndarray) -> None:
        if start == 0:
            self._summed = (0, self.header_crc)
        if self._summed and self._summed[0] == start:
            self._summed = (stop, zlib.crc32(data.data, self._summed[1]))
            if stop == rows and self._summed[1] != self.crc:
                raise UserError(
                    f"Checkpoint {self.path} is not a readable .npz file (wrong checksum); it may "
                    "be truncated or damaged."
                )


@dataclasses.dataclass
class _Unpacked:
    """An array that has to be read whole, because it is compressed or in Fortran order."""

    path: epath.Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads the whole array and returns the rows."""
        try:
            with open_file(self.path) as f, np.load(f, allow_pickle=False) as arrays:
                x = _as_bfloat16(arrays[self.key])
        except Exception as e:
            raise _unreadable(self.path, e) from None
        return x[start:stop] if x.ndim else x


def open_npz(path: os.PathLike | str) -> dict[str, Tensor]:
    """Opens a parameter file and reads its headers.

    Arrays of raw 2-byte void are bfloat16, which numpy stores this way.

    Args:
      path: a local or remote file, or one of its parts.

    Returns:
      The tensors in the file's dtypes by name, such as `img/head/kernel`.

    Raises:
      UserError: the file is missing, truncated or pickled, holds no parameter, or one that is not
        floating point.
    """
    path = epath.Path(path)
    arrays = open_arrays(path)
    arrays = {key: x for key, x in arrays.items() if not key.startswith((_DELTA, _SPEC))}
    prefix = next(p for p in _PREFIXES if not p or any(key.startswith(p) for key in arrays))
    tensors = {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}
    if not tensors:
        raise UserError(f"Checkpoint {path} holds no parameter.")
    if wrong := [name for name, x in tensors.items() if str(x.dtype) not in _FLOATS]:
        raise UserError(
            f"Checkpoint {path} holds {len(wrong)} parameters that are not floating point, such as "
            f"{wrong[0]} of {tensors[wrong[0]].dtype}; expected one of {', '.join(_FLOATS)}."
        )
    return {name: _narrowed(x) for name, x in tensors.items()}


def _narrowed(tensor: Tensor) -> Tensor:
    """Returns float64 as float32, the widest dtype that pgjax computes with."""
    return Converted(tensor, np.dtype(np.float32)) if tensor.dtype == np.float64 else tensor


def open_arrays(path: os.PathLike | str) -> dict[str, Tensor]:
    """Opens any `.npz` as `open_npz` does, and keeps its keys as they are.

    Raises:
      UserError: the file is missing, truncated or pickled.
    """
    path = epath.Path(path)
    if not path.is_file():
        raise UserError(f"Checkpoint {path} does not exist.")
    try:
        with open_file(path) as f, zipfile.ZipFile(f) as members:
            return dict(_open_member(path, f, members, info) for info in members.infolist())
    except Exception as e:  # Damaged bytes can raise anything in zipfile, struct and numpy.
        raise _unreadable(path, e) from None


def base_of(path: os.PathLike | str) -> BaseRecord | None:
    """Returns the base of a delta (see `write_delta`), or None for a whole checkpoint.

    Raises:
      UserError: the file is missing, truncated or pickled.
    """
    arrays = open_arrays(path)
    try:
        texts = {
            key.removeprefix(_DELTA): x.read().tobytes().decode()
            for key, x in arrays.items()
            if key.startswith(_DELTA)
        }
    except UnicodeDecodeError as e:
        raise _unreadable(epath.Path(path), e) from None
    if "base" not in texts:
        return None
    return BaseRecord(texts["base"], texts.get("path", ""), texts.get("checksum", ""))


def spec_of(path: os.PathLike | str) -> dict[str, float]:
    """Returns what a file says of its model, such as `{"final_softcap": 0.0}`; see `write_npz`.

    Raises:
      UserError: the file is missing, truncated or pickled.
    """
    return {
        key.removeprefix(_SPEC): float(x.read())
        for key, x in open_arrays(path).items()
        if key in {_SPEC + name for name in _SPEC_KEYS} and (x.shape, x.dtype) == ((), np.float32)
    }


def read_npz(path: os.PathLike | str) -> dict[str, np.ndarray]:
    """Reads a parameter file into memory; see `open_npz`."""
    return {name: tensor.read() for name, tensor in open_npz(path).items()}


def write_npz(
    path: os.PathLike | str,
    flat: Mapping[str, np.ndarray | Tensor],
    spec: Mapping[str, float] | None = None,
) -> None:
    """Writes a parameter file, which replaces an older one only once it is complete.

    Args:
      path: a local or remote file.
      flat: arrays by name, or tensors, of which one slice at a time is in host memory.
      spec: numbers of the decoder that shapes do not tell, under `spec/`, which others pass over.

    Raises:
      UserError: the file cannot be written.
    """
    write_arrays(path, _arrays(flat, spec))


def _arrays(
    flat: Mapping[str, np.ndarray | Tensor], spec: Mapping[str, float] | None
) -> list[tuple[str, np.ndarray | Tensor]]:
    said = [(_SPEC + key, np.array(x, np.float32)) for key, x in (spec or {}).items()]
    return [*said, *((PREFIX + name, x) for name, x in flat.items())]


def write_delta(
    path: os.PathLike | str,
    flat: Mapping[str, np.ndarray | Tensor],
    base: BaseRecord,
    spec: Mapping[str, float] | None = None,
) -> None:
    """Writes a delta: a parameter file with only the parameters that differ from its base.

    Args:
      path: a local or remote file.
      flat: arrays or tensors by name, as for `write_npz`.
      base: the checkpoint that holds all other parameters.
      spec: as for `write_npz`.

    Raises:
      UserError: the file cannot be written.
    """
    texts = {"base": base.name, "path": base.path, "checksum": base.checksum}
    described = [
        (_DELTA + key, np.frombuffer(text.encode(), np.uint8)) for key, text in texts.items()
    ]
    write_arrays(path, [*described, *_arrays(flat, spec)])


def write_arrays(
    path: os.PathLike | str, arrays: Iterable[tuple[str, np.ndarray | Tensor]]
) -> None:
    """Writes any `.npz` as `write_npz` does, with the keys as they are given.

    Raises:
      UserError: the file cannot be written.
    """
    path = epath.Path(path)
    part = path.parent / f"{path.name}.part"
    try:
        with part.open("wb") as f, zipfile.ZipFile(f, "w") as members:
            for name, x in arrays:
                with members.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_tensor(member, x if isinstance(x, Tensor) else InMemory(np.asarray(x)))
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise UserError(f"Checkpoint {path} could not be written ({e}).") from None


def _write_tensor(member: IO[bytes], tensor: Tensor) -> None:
    """Writes an array with its header as `np.save` does, in slices of its rows."""
    shape, dtype = tensor.shape, tensor.dtype
    descr = np.lib.format.dtype_to_descr(_void_if_bfloat16(dtype))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    if not shape:
        member.write(tensor.read().tobytes())
        return
    row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    rows = max(1, SLICE_BYTES // max(row_bytes, 1))
    for start in range(0, shape[0], rows):
        x = np.ascontiguousarray(tensor.read(start, min(start + rows, shape[0])))
        member.write(x.reshape(-1).view(np.uint8).data)


def _open_member(
    path: epath.Path, f: IO[bytes], members: zipfile.ZipFile, info: zipfile.ZipInfo
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


def _void_if_bfloat16(dtype: np.dtype) -> np.dtype:
    return np.dtype("V2") if dtype == ml_dtypes.bfloat16 else dtype


def _unreadable(path: epath.Path, e: Exception) -> UserError:
    return UserError(
        f"Checkpoint {path} is not a readable .npz file ({str(e) or type(e).__name__}); "
        "it may be truncated."
    )
