"""Parameter files: round trips, broken files, and strict loading."""

import json
import pathlib
import pickle
import shutil
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conftest import GOLDEN
from etils import epath

from pgjax import sharding
from pgjax.checkpoints import npz, placement
from pgjax.checkpoints.fitting import fit_to_model, resample_positions
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.locate import FOLDER_VARIABLE, find_checkpoint
from pgjax.checkpoints.npz import open_npz, read_npz, write_npz
from pgjax.errors import UserError

RNG = np.random.default_rng(0)
ARRAYS = {
    "img/head/kernel": RNG.normal(size=(3, 4)).astype(np.float32),
    "llm/w": RNG.normal(size=(2, 5)).astype(np.float16),
    "llm/b": RNG.normal(size=7).astype(ml_dtypes.bfloat16),
    "llm/s": np.float32(3.5).reshape(()),
}


def same(got, want):
    assert got.keys() == want.keys()
    for name, x in want.items():
        assert got[name].dtype == x.dtype and got[name].shape == x.shape, name
        np.testing.assert_array_equal(got[name], x)


@pytest.mark.parametrize("as_str", [False, True])
def test_round_trip(tmp_path, as_str):
    path = tmp_path / "x.npz"
    write_npz(str(path) if as_str else path, ARRAYS)
    same(read_npz(str(path) if as_str else path), ARRAYS)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_the_file_is_a_plain_npz_as_released_ones_are(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as f:
        assert set(f.files) == {"params/" + name for name in ARRAYS}
        assert f["params/llm/b"].dtype == np.dtype("V2")
        np.testing.assert_array_equal(f["params/llm/w"], ARRAYS["llm/w"])


def test_raw_void_is_bfloat16(tmp_path):
    """bfloat16 is the upper half of a float32."""
    bits = np.array([0x3F80, 0xC000, 0x4049], np.uint16)  # 1, -2, 3.140625
    np.savez(tmp_path / "x.npz", **{"params/a": bits.view("V2")})
    a = read_npz(tmp_path / "x.npz")["a"]
    assert a.dtype == ml_dtypes.bfloat16
    assert a.astype(np.float32).tolist() == [1.0, -2.0, 3.140625]


def test_compressed_and_fortran_order(tmp_path):
    x = np.asfortranarray(ARRAYS["img/head/kernel"])
    np.savez_compressed(tmp_path / "x.npz", **{"params/a": x})
    np.testing.assert_array_equal(read_npz(tmp_path / "x.npz")["a"], x)


def test_rows_are_read_alone(tmp_path):
    """Any slice, and the bytes of nothing else."""
    path = tmp_path / "x.npz"
    write_npz(path, ARRAYS)
    for name, tensor in npz.open_npz(path).items():
        want = ARRAYS[name]
        assert (tensor.shape, tensor.dtype) == (want.shape, want.dtype)
        if want.ndim:
            for start, stop in ((0, 1), (1, None), (0, 2), (-1, None)):
                np.testing.assert_array_equal(tensor.read(start, stop), want[start:stop])
    w = npz.open_npz(path)["llm/w"]
    data = bytearray(path.read_bytes())
    data[w.offset] ^= 1  # in row 0
    path.write_bytes(data)
    np.testing.assert_array_equal(w.read(1, 2), ARRAYS["llm/w"][1:2])
    w.read(0, 1)
    with pytest.raises(UserError, match="wrong checksum"):
        w.read(1, 2)  # now all rows were read in order


def test_tensors_can_be_written_as_they_are_read(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS)
    write_npz(tmp_path / "y.npz", npz.open_npz(tmp_path / "x.npz"))
    assert (tmp_path / "y.npz").read_bytes() == (tmp_path / "x.npz").read_bytes()


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz does not exist"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(UserError, match="does not exist"):
        read_npz(tmp_path)  # a folder


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated(tmp_path, share):
    path = tmp_path / "x.npz"
    write_npz(path, ARRAYS)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"x\.npz is not a readable .npz file.*truncated"):
        read_npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bits_are_an_error_or_harmless(tmp_path, save):
    """Whatever byte is damaged, no other exception, and never other numbers."""
    path = tmp_path / "x.npz"
    save(path, **{"params/a": np.arange(200, dtype=np.float32)})
    data = path.read_bytes()
    errors = 0
    for position in RNG.choice(len(data), 150, replace=False):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(RNG.integers(8))
        path.write_bytes(damaged)
        try:
            flat = read_npz(path)
        except UserError:
            errors += 1
        else:
            assert next(iter(flat.values())).tolist() == list(range(200)), position
    assert errors > 75


def test_not_an_npz(tmp_path):
    path = tmp_path / "x.npz"
    files = {
        "text": b"hello",
        "html": b"<!doctype html><title>Access to this model is restricted</title>",
        "pickle": pickle.dumps({"params/a": 1}),
    }
    for data in files.values():
        path.write_bytes(data)
        with pytest.raises(UserError, match="not a readable"):
            read_npz(path)
    with path.open("wb") as f:
        np.save(f, np.zeros(3))
    with pytest.raises(UserError, match="not a readable"):
        read_npz(path)
    np.savez(path, **{"params/a": np.array([{"an": "object"}])})
    with pytest.raises(UserError, match="not a readable"):
        read_npz(path)


def test_a_pickle_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "was_run",)

    np.savez(tmp_path / "x.npz", **{"params/a": np.array([Evil()], dtype=object)})
    with pytest.raises(UserError):
        read_npz(tmp_path / "x.npz")
    assert not (tmp_path / "was_run").exists()


FLAT = {"img/a": np.float32([1, 2]), "llm/b": np.float32([[3]])}


@pytest.mark.parametrize(
    "saved",
    [
        FLAT,  # as big_vision's fine-tuning notebook saves them
        {f"params/{k}": x for k, x in FLAT.items()},
        {f"params/{k}": x for k, x in FLAT.items()} | {"opt/0/mu/img/a": FLAT["img/a"] + 1},
        {f"params/{k}": x for k, x in FLAT.items()} | {"step": np.int32(7), "extra/seed": 3},
        {f"opt/target/{k}": x for k, x in FLAT.items()} | {"opt/state/step": np.int64(7)},
        {k: x.astype(np.float64) for k, x in FLAT.items()},
    ],
    ids=["notebook", "params", "optimizer", "step", "target", "float64"],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_big_vision(tmp_path, saved, save):
    save(tmp_path / "x.npz", **saved)
    same(read_npz(tmp_path / "x.npz"), FLAT)


def test_a_whole_model_as_the_notebook_saves_it(tmp_path):
    with np.load(GOLDEN / "params.npz") as arrays:
        flat = {key.removeprefix("params/"): arrays[key] for key in arrays}
    np.savez(tmp_path / "x.npz", **flat)
    found = open_checkpoint(str(tmp_path / "x.npz"))
    assert found.spec == open_checkpoint(str(GOLDEN / "params.npz")).spec
    same({name: x.read() for name, x in found.tensors.items()}, flat)


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint16", "bool", "complex64", "U3"])
def test_only_floating_point_is_a_parameter(tmp_path, dtype):
    np.savez(tmp_path / "x.npz", **{"params/a": np.float32([1]), "params/b": np.ones(2, dtype)})
    with pytest.raises(UserError, match=r"x.npz holds 1 parameters that are not .*such as b of"):
        read_npz(tmp_path / "x.npz")


def test_no_parameter(tmp_path):
    np.savez(tmp_path / "y.npz")
    with pytest.raises(UserError, match="holds no parameter"):
        read_npz(tmp_path / "y.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_npz(path, {"a": ARRAYS["llm/w"]})
    before = path.read_bytes()

    def full_disk(member, tensor):
        member.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(npz, "_write_tensor", full_disk)
    with pytest.raises(UserError, match=r"x\.npz could not be written.*No space left"):
        write_npz(path, ARRAYS)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_npz(path, {"a": ARRAYS["llm/w"]})
    before, seen, real = path.read_bytes(), [], npz._write_tensor

    def look(member, tensor):
        real(member, tensor)
        seen.append(path.read_bytes() == before)

    monkeypatch.setattr(npz, "_write_tensor", look)
    write_npz(path, ARRAYS)
    assert seen == [True] * len(ARRAYS)
    same(read_npz(path), ARRAYS)


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_npz(path, {"a": ARRAYS["llm/w"]})
    before = path.read_bytes()

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(epath.Path(path)), "replace", fail)
    with pytest.raises(UserError, match="could not be written"):
        write_npz(path, ARRAYS)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_write_where_nothing_can_be(tmp_path):
    with pytest.raises(UserError, match="could not be written"):
        write_npz(tmp_path / "none" / "x.npz", ARRAYS)


def targets(dtype="float32"):
    where = sharding.replicated(sharding.make_mesh())
    with np.load(GOLDEN / "params.npz") as arrays:
        return {
            name.removeprefix("params/"): jax.ShapeDtypeStruct(x.shape, dtype, sharding=where)
            for name, x in arrays.items()
        }


def load(tensors, wanted):
    return placement.place(fit_to_model(tensors, wanted, what="Checkpoint params.npz"), wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_load_golden(dtype):
    want = targets(dtype)
    got = load(open_npz(GOLDEN / "params.npz"), want)
    assert list(got) == list(want)
    with np.load(GOLDEN / "params.npz") as arrays:
        for name, x in got.items():
            assert isinstance(x, jax.Array) and x.dtype == dtype
            assert x.sharding == want[name].sharding
            expected = arrays["params/" + name].astype(jnp.dtype(dtype))
            np.testing.assert_array_equal(np.asarray(x), expected)


def test_loading_is_strict_and_lists_everything():
    want = targets()
    missing = want.pop("img/head/bias")
    want["llm/lora"] = missing
    norm = want["llm/final_norm/scale"]
    want["llm/final_norm/scale"] = jax.ShapeDtypeStruct((65,), norm.dtype, sharding=norm.sharding)
    with pytest.raises(UserError) as e:
        load(open_npz(GOLDEN / "params.npz"), want)
    lines = str(e.value).splitlines()
    assert "params.npz does not fit the model (3 differences)" in lines[0]
    assert lines[1:] == [
        "  + img/head/bias 64 is left over",
        "  ! llm/final_norm/scale has shape 64, expected 65",
        "  - llm/lora 64 is missing",
    ]


def test_find(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"'pt-224'.*pt-224\.npz into a.*\$PGJAX_CHECK"):
        find_checkpoint("pt-224")
    with pytest.raises(UserError, match=r"'pt-225' is neither.*Did you mean 'pt-224'"):
        find_checkpoint("pt-225")
    with pytest.raises(UserError, match=r"some/where\.npz does not exist"):
        find_checkpoint("some/where.npz")
    with pytest.raises(UserError, match=r"here\.npz does not exist"):
        find_checkpoint("here.npz")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    path = tmp_path / "paligemma-3b-pt-224.npz"
    shutil.copy(GOLDEN / "params.npz", path)
    assert find_checkpoint("pt-224") == path
    (tmp_path / "paligemma-3b-mix-448.b16.npz").touch()
    assert find_checkpoint("mix-448.bf16").name == "paligemma-3b-mix-448.b16.npz"
    (tmp_path / "paligemma2-3b-pt-224").mkdir()
    assert find_checkpoint("paligemma2-3b-pt-224").is_dir()
    assert find_checkpoint(str(tmp_path)) == tmp_path
    assert find_checkpoint("tiny").name == "tiny.npz"


@pytest.mark.parametrize("side", [3, 5, 7, 8, 12])
def test_positions_of_another_resolution(side):
    """The reference resamples with scipy."""
    with np.load(GOLDEN / "params.npz") as arrays:
        x = arrays["params/img/pos_embedding"]
    with np.load(GOLDEN / "forward.npz") as arrays:
        want = arrays[f"posemb_resample_{side}"]
    np.testing.assert_allclose(resample_positions(x, side), want, atol=1e-6)


def test_loading_at_another_resolution_says_so(capsys):
    want = targets()
    name = "img/pos_embedding"
    shape = (1, 64, want[name].shape[-1])
    want[name] = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=want[name].sharding)
    got = load(open_npz(GOLDEN / "params.npz"), want)
    assert got[name].shape == shape
    assert "params.npz was trained on 4x4 image tokens" in capsys.readouterr().err


@pytest.mark.parametrize("slice_bytes", [1, 5000, 2**30])
def test_large_tensors_go_in_slices(monkeypatch, slice_bytes):
    monkeypatch.setattr(placement, "SLICE_BYTES", slice_bytes)
    opened, read = open_npz(GOLDEN / "params.npz"), []
    name = "llm/layers/mlp/gating_einsum"

    class Spy:
        shape, dtype = opened[name].shape, opened[name].dtype

        def read(self, start=0, stop=None):
            read.append((start, stop))
            return opened[name].read(start, stop)

    want = {name: targets("bfloat16")[name]}
    got = load({name: Spy()}, want)[name]
    np.testing.assert_array_equal(got, opened[name].read().astype(ml_dtypes.bfloat16))
    layers = opened[name].shape[0]
    assert len(read) == (1 if slice_bytes > 10**6 else layers)


@pytest.mark.parametrize("slice_bytes", [1, 50, 2**30])
def test_large_tensors_are_written_in_slices(monkeypatch, tmp_path, slice_bytes):
    """What numpy writes at once, byte by byte, with no more than a slice in memory."""
    monkeypatch.setattr(npz, "SLICE_BYTES", slice_bytes)
    spies = {}

    class Spy:
        def __init__(self, x):
            self.x, self.shape, self.dtype, self.most = x, x.shape, x.dtype, 0

        def read(self, start=0, stop=None):
            part = self.x[start:stop] if self.x.ndim else self.x
            self.most = max(self.most, part.nbytes)
            return part

    wide = np.asfortranarray(RNG.normal(size=(6, 2, 3)))
    arrays = {**ARRAYS, "llm/wide": wide, "llm/none": np.zeros((0, 3), np.float32)}
    spies = {name: Spy(x) for name, x in arrays.items()}
    write_npz(tmp_path / "slices.npz", spies)
    void = {k: x.view("V2") if x.dtype == ml_dtypes.bfloat16 else x for k, x in arrays.items()}
    void = {f"params/{k}": np.array(x, order="C") for k, x in void.items()}
    np.savez(tmp_path / "whole.npz", **void)
    with (
        zipfile.ZipFile(tmp_path / "slices.npz") as a,
        zipfile.ZipFile(tmp_path / "whole.npz") as b,
    ):
        assert a.namelist() == b.namelist()
        for name in b.namelist():
            assert a.read(name) == b.read(name), name
    row = wide[0].nbytes
    assert spies["llm/wide"].most == max(row, min(slice_bytes // row * row, wide.nbytes))


def test_sizes_are_read_from_the_shapes():
    manifest = json.loads((GOLDEN / "manifest.json").read_text())["model"]
    spec = open_checkpoint(str(GOLDEN / "params.npz")).spec
    assert spec["res"] == manifest["res"]
    for tower in ("img", "llm"):
        for key, value in spec[tower].items():
            value = list(value) if isinstance(value, tuple) else value
            assert manifest[tower][key] == value, key


def test_an_npz_of_something_else(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS)
    with pytest.raises(UserError, match=r"x\.npz is no PaliGemma: 'img/embedding/kernel'"):
        open_checkpoint(str(tmp_path / "x.npz"))
