"""Files of checkpoints, tokenizers and run directories."""

import functools
import gzip
import io
import json
import pathlib
import tempfile

import numpy as np
import sentencepiece
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.hf_tokenizer import find_tokenizer
from pgjax.checkpoints.npz import open_npz
from pgjax.checkpoints.peft import write_adapter
from pgjax.checkpoints.safetensors_file import open_safetensors
from pgjax.checkpoints.tensors import InMemory, Tensor
from pgjax.config import parse_config
from pgjax.loading.run_directory import is_run, read_run, write_run
from pgjax.text.tokenizer import Tokenizer
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import bytes_of, folders_of, read_folder, write_folder

_TESTS = pathlib.Path(__file__).parents[4] / "tests"
_HF = _TESTS / "hf_folders"


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "img/head/kernel": rng.normal(size=(3, 4)).astype(np.float32),
        "llm/final_norm/scale": np.arange(5, dtype=np.float16),
        "llm/x": np.array(3.5, np.float32),
    }


@functools.cache
def _npz() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, allow_pickle=False, **_arrays())
        found.append(out.getvalue())
    return found


def _one(name: str, data: bytes) -> dict[str, bytes]:
    return {name: data}


def _same(tensors: dict[str, Tensor], wanted: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        got = tensor.read()
        if tuple(tensor.shape) != got.shape:
            raise Wrong(f"{name} states {tensor.shape}, and has {got.shape}")
        other = wanted.get(name, wanted.get(f"params/{name}"))
        if other is None or got.dtype != other.dtype or got.tobytes() != other.tobytes():
            raise Wrong(f"{name} is not what the library reads")


def check_npz(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Tensors are those of numpy."""
    write_folder(folder, files)
    tensors = open_npz(folder / "x.npz")
    with np.load(folder / "x.npz", allow_pickle=False) as z:
        got = {name: tensor.read() for name, tensor in tensors.items()}
        _same({name: InMemory(x) for name, x in got.items()}, {n: z[n] for n in got})


def check_safetensors(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Tensors are those of the library's other reader."""
    write_folder(folder, files)
    tensors = open_safetensors(folder / "x.safetensors")
    _same(tensors, load_safetensors(files["x.safetensors"]))


@functools.cache
def _folders() -> list[dict[str, bytes]]:
    names = ("4.41/gemma-float32", "4.47/gemma2-float32", "5.23/gemma-bfloat16")
    found = [read_folder(_HF / name) for name in names]
    return [{k: v for k, v in files.items() if not k.endswith(".npz")} for files in found]


def check_folder(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Every parameter has the shape that it states, and no file outside is read."""
    write_folder(folder, files)
    found = open_checkpoint(str(folder))
    for name, tensor in found.tensors.items():
        if tensor.read().shape != tuple(tensor.shape):
            raise Wrong(f"{name} states {tensor.shape}, and has {tensor.read().shape}")


@functools.cache
def _base() -> str:
    """A folder that lives as long as the fuzzer, beneath adapters."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz_base"))
    write_folder(folder, _folders()[0])
    return str(folder)


@functools.cache
def _adapter() -> dict[str, bytes]:
    import flax.linen as nn

    from pgjax import trees
    from pgjax.models.lora import is_adapter
    from pgjax.models.paligemma import abstract_params, make_model

    below = open_checkpoint(_base())
    lora = {"rank": 2, "alpha": 4.0, "rslora": False, "dropout": 0.0}
    spec = {**below.spec, "lora": {**lora, "targets": ".*attn.*"}}
    flat = trees.flatten(nn.unbox(abstract_params(make_model(spec))))
    rng = np.random.default_rng(0)
    tensors: dict[str, Tensor] = {
        name: InMemory(rng.normal(size=x.shape).astype(np.float32))
        for name, x in flat.items()
        if is_adapter(name)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "adapter")
        write_adapter(path, tensors, below.spec, lora, base="BASE")
        return read_folder(path)


def check_adapter(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """Adapters have the rank that their config states."""
    write_folder(folder, files)
    found = open_checkpoint(str(folder), _base())
    for name, tensor in found.tensors.items():
        if tensor.read().shape != tuple(tensor.shape):
            raise Wrong(f"{name} states {tensor.shape}")
    stated = json.loads(files["adapter_config.json"])
    if "lora" in found.spec and found.spec["lora"]["rank"] != stated.get("r"):
        raise Wrong(f"rank {found.spec['lora']['rank']}, the file says {stated.get('r')}")


@functools.cache
def _models() -> list[bytes]:
    return [(_TESTS / "golden" / "tokenizer.model").read_bytes()]


def check_model(data: bytes, folder: pathlib.Path) -> None:
    """Pieces of plain text are those of the library."""
    tokenizer = Tokenizer(data, name="x.model")
    plain = sentencepiece.SentencePieceProcessor()
    plain.LoadFromSerializedProto(data)
    for text in ("a red circle", "detect cat\n", "é😀\0"):
        ids = tokenizer.encode(text)
        if "<" not in text and ids != plain.encode(text):
            raise Wrong(f"{text!r}: {ids}, expected {plain.encode(text)}")
        if ids and not 0 <= min(ids) <= max(ids) < tokenizer.vocab_size:
            raise Wrong(f"{ids} of {tokenizer.vocab_size}")
        tokenizer.decode(ids)


@functools.cache
def _processor() -> list[dict[str, bytes]]:
    found = []
    for version in ("4.47", "5.23"):
        files = read_folder(_HF / version / "processor")
        packed = {k[:-3]: gzip.decompress(v) for k, v in files.items() if k.endswith(".gz")}
        found.append({**{k: v for k, v in files.items() if k.endswith(".json")}, **packed})
    return found


def check_tokenizer_folder(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """A tokenizer that is taken knows its location tokens."""
    write_folder(folder, files)
    path = find_tokenizer(folder)
    if path is None:
        return
    tokenizer = Tokenizer.from_file(path)
    if tokenizer.encode("<loc0007>")[-1:] != [tokenizer.loc_id(7)]:
        raise Wrong(f"<loc0007> is {tokenizer.encode('<loc0007>')}")


@functools.cache
def _run() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        config = parse_config({"name": "a", "mesh": {"data": 2}, "init": "tiny"})
        write_run(path, config, ["llm/w"], _models()[0])
        return read_folder(path)


def check_run(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """What is taken has the values of the file."""
    write_folder(folder, files)
    is_run(folder)
    run = read_run(folder)
    if list(run.trained) != json.loads(files["run.json"])["trained"]:
        raise Wrong(f"{run.trained}")
    stated = json.loads(files["config.json"])
    if "seed" in stated and run.config.seed != stated["seed"]:
        raise Wrong(f"seed {run.config.seed}, the file says {stated['seed']}")


TARGETS = [
    Target("npz", folders_of(lambda: [_one("x.npz", data) for data in _npz()]), check_npz, 6),
    Target(
        "safetensors",
        folders_of(lambda: [_one("x.safetensors", save_safetensors(_arrays()))]),
        check_safetensors,
        6,
    ),
    Target("Hugging Face folders", folders_of(_folders), check_folder, 8),
    Target("adapters", folders_of(lambda: [_adapter()]), check_adapter, 5),
    Target("SentencePiece models", bytes_of(_models), check_model, 4),
    Target("tokenizer.json", folders_of(_processor), check_tokenizer_folder, 4),
    Target("run directories", folders_of(lambda: [_run()], "*.json"), check_run, 5),
]
