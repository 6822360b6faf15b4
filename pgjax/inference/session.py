"""Opens what a config describes: tokenizer, model, mesh, pipelines and parameters."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding

from pgjax import sharding, trees
from pgjax.checkpoints import sources
from pgjax.checkpoints.load import load
from pgjax.checkpoints.resume import FOLDER, Checkpoints
from pgjax.data.pipeline import Pipeline
from pgjax.errors import UserError
from pgjax.models.paligemma import PaliGemma, abstract_params, init_params, make_model
from pgjax.text.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.model"

Flat = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)  # hashable, by identity
class Session:
    """A model ready to be given parameters, on a mesh, with the text side that fits it."""

    config: Mapping[str, Any]
    tokenizer: Tokenizer
    model: PaliGemma
    mesh: Mesh
    shardings: dict[str, NamedSharding]
    shapes: dict[str, tuple[int, ...]]

    def pipeline(self, pp: str) -> Pipeline:
        """Parses a pipeline string that may tokenize."""
        return Pipeline.parse(pp, tokenizer=self.tokenizer)


def open_tokenizer(name: str) -> Tokenizer:
    """`tiny`, `gemma` (found or downloaded) or the path of a `tokenizer.model`.

    Raises:
      UserError: not found, or not a tokenizer.
    """
    if name == "tiny":
        return Tokenizer.tiny()
    if name == "gemma":
        return Tokenizer.from_file(sources.find_tokenizer())
    return Tokenizer.from_file(name)


def open_session(config: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> Session:
    """Builds the parts; no parameter exists yet.

    Raises:
      UserError: parts that do not go together, such as a vocabulary larger than the model's.
    """
    tokenizer = tokenizer or open_tokenizer(config["tokenizer"])
    model = make_model(config["model"])
    if tokenizer.vocab_size != model.llm_config.vocab_size:
        raise UserError(
            f"config.tokenizer {config['tokenizer']!r} has {tokenizer.vocab_size} tokens, but "
            f"config.model.llm.vocab_size is {model.llm_config.vocab_size}."
        )
    mesh = sharding.make_mesh(**config["mesh"])
    boxed = abstract_params(model)
    return Session(
        config=config,
        tokenizer=tokenizer,
        model=model,
        mesh=mesh,
        shardings=sharding.param_shardings(mesh, boxed, config["sharding"]),
        shapes={name: x.shape for name, x in trees.flatten(nn.unbox(boxed)).items()},
    )


def load_params(session: Session, dtype_of: Callable[[str], str]) -> Flat:
    """The parameters that the config's `init` names, each in its sharding and dtype.

    Args:
      session: from `open_session`.
      dtype_of: parameter name -> dtype name.

    Raises:
      UserError: not found, or it does not fit the model.
    """
    targets = {
        name: jax.ShapeDtypeStruct(shape, dtype_of(name), sharding=session.shardings[name])
        for name, shape in session.shapes.items()
    }
    source = session.config["init"]
    if not source:
        return _random(session, targets)
    if (path := pathlib.Path(source)).is_dir() and is_run(path):
        return _from_run(path, session, targets)
    checkpoint = sources.open_checkpoint(source)
    return load(checkpoint.tensors, targets, what=f"Checkpoint {checkpoint.path}")


def _random(session: Session, targets: Mapping[str, jax.ShapeDtypeStruct]) -> Flat:
    @functools.partial(jax.jit, out_shardings={n: t.sharding for n, t in targets.items()})
    def init(key):
        flat = trees.flatten(init_params(session.model, key))
        return {name: x.astype(targets[name].dtype) for name, x in flat.items()}

    return init(jax.random.key(session.config["seed"]))


def _from_run(path: pathlib.Path, session: Session, targets) -> Flat:
    """A run directory: what it trained, over the base it started from."""
    config = read_config(path)
    trained = set(config["_trained"])
    checkpoints = Checkpoints(path, read_only=True) if (path / FOLDER).is_dir() else None
    step = checkpoints and checkpoints.latest()
    if step is None:
        raise UserError(f"Run directory {path} holds no whole checkpoint.")
    expected = {n: t for n, t in targets.items() if n in trained}
    params = checkpoints.restore_params(step, expected)
    if len(params) < len(targets):
        base = dataclasses.replace(session, config=config)
        params = {**load_params(base, lambda name: str(targets[name].dtype)), **params}
    return params


def is_run(path: pathlib.Path) -> bool:
    """Whether a folder is a run directory, and not one of Hugging Face's."""
    try:
        return "_trained" in json.loads((path / CONFIG_FILE).read_text())
    except (OSError, json.JSONDecodeError):
        return (path / FOLDER).is_dir()


def read_config(run: pathlib.Path) -> dict[str, Any]:
    """The resolved config of a run directory.

    Raises:
      UserError: not a run directory.
    """
    path = pathlib.Path(run) / CONFIG_FILE
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{run} is not a run directory: it has no {CONFIG_FILE}.") from None
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno}: not JSON ({e.msg}).") from None


def on_mesh(mesh: Mapping[str, int] | None) -> dict[str, Any]:
    """The part of a config that says where parameters lie for answering: no device waits for them.

    Args:
      mesh: sizes of `data` and `model`; None for all devices under `data`.
    """
    mesh = dict(mesh or {"data": -1, "model": 1})
    strategy = "replicate" if mesh["model"] == 1 else "tensor"
    return {"mesh": mesh, "sharding": ((".*", strategy),)}


def open_run(
    run: pathlib.Path | str, dtype: str | None = None, mesh: Mapping[str, int] | None = None
) -> tuple[Session, Flat]:
    """Opens a run directory with its newest checkpoint, on this machine's devices.

    Args:
      run: the `--workdir` of a training run.
      dtype: of the parameters; None for those of training.
      mesh: see `on_mesh`.

    Raises:
      UserError: not a run directory, or no whole checkpoint.
    """
    run = pathlib.Path(run)
    config = {**read_config(run), **on_mesh(mesh)}
    session = open_session(config, Tokenizer.from_file(run / TOKENIZER_FILE))
    start = dataclasses.replace(session, config={**config, "init": str(run)})
    trained = set(config["_trained"])

    def dtype_of(name: str) -> str:
        return dtype or config["trainable_dtype" if name in trained else "frozen_dtype"]

    return session, load_params(start, dtype_of)
