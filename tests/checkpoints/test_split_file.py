"""An `.npz` in parts is read as one file."""

import numpy as np
import pytest
from conftest import GOLDEN

from pgjax.checkpoints import npz
from pgjax.checkpoints.base_checkpoint import checksum
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.errors import UserError

WHOLE = GOLDEN / "params.npz"


def split(folder, suffixes, name="mine.npz"):
    folder.mkdir(exist_ok=True)
    data = WHOLE.read_bytes()
    ends = np.linspace(0, len(data), len(suffixes) + 1).astype(int)
    for suffix, start, stop in zip(suffixes, ends, ends[1:], strict=False):
        (folder / f"{name}.part{suffix}").write_bytes(data[start:stop])
    return folder / name


@pytest.mark.parametrize(
    "suffixes",
    [range(3), range(1, 12), ["-00", "-01", "-02"], ["aa", "ab", "ac"], ["0"]],
    ids=["from-0", "without-zeros", "with-zeros", "letters", "one"],
)
def test_the_same_arrays(tmp_path, suffixes):
    path = split(tmp_path / "parts", [*suffixes])
    (path.parent / "mine.npz.part").write_bytes(b"what an interrupted write has left")
    checkpoint, whole = open_checkpoint(str(path)), open_checkpoint(str(WHOLE))
    assert checkpoint.spec == whole.spec
    assert checkpoint.tensors.keys() == whole.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), whole.tensors[name].read())
        if len(tensor.shape) > 1:
            np.testing.assert_array_equal(tensor.read(1, 2), whole.tensors[name].read(1, 2))
    assert checksum(checkpoint.path) == checksum(WHOLE)
    assert npz.open_npz(checkpoint.path).keys() == whole.tensors.keys()


@pytest.mark.parametrize(
    ("missing", "message"),
    [(0, "not a readable"), (1, "number 1 is missing between 0 and 2"), (3, "not a readable")],
)
def test_a_missing_part(tmp_path, missing, message):
    path = split(tmp_path / "parts", range(4))
    (path.parent / f"mine.npz.part{missing}").unlink()
    with pytest.raises(UserError, match=message):
        open_checkpoint(str(path))


def test_a_missing_part_without_a_number(tmp_path):
    path = split(tmp_path / "parts", ["aa", "ab", "ac", "ad"])
    (path.parent / "mine.npz.partac").unlink()
    with pytest.raises(UserError, match=r"not a readable .npz file|not where the file says"):
        open_checkpoint(str(path))


def test_a_released_name_finds_parts(tmp_path, monkeypatch):
    name = "paligemma2-28b-pt-224"
    split(tmp_path / "parts", range(2), f"{name}.b16.npz")
    monkeypatch.setenv("PGJAX_CHECKPOINTS", str(tmp_path / "parts"))
    for asked in (name, f"{name}.bf16", f"{name}.b16", f"{name}.b16.npz"):
        found = open_checkpoint(asked)
        assert found.path.name == f"{name}.b16.npz.part0" and found.release.name == name
