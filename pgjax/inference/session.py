"""Opens what a config describes: tokenizer, model, mesh, pipelines and parameters."""

import contextlib
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding

from pgjax import sharding, trees
from pgjax.checkpoints import sources
from pgjax.checkpoints.load import load, resampled
from pgjax.checkpoints.resume import FOLDER, Checkpoints
from pgjax.data.pipeline import Pipeline
from pgjax.devices import precision
from pgjax.errors import UserError
from pgjax.inference.arrange import is_quantized, quantized
from pgjax.models.lora import is_adapter, lora_config
from pgjax.models.paligemma import PaliGemma, abstract_params, init_params, make_model
from pgjax.models.quantized import KINDS
from pgjax.text.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.model"

Flat = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)  # hashable, by identity
class Layout:
    """A model and where its parameters lie on a mesh; there are none yet, and no text."""

    config: Mapping[str, Any]
    model: PaliGemma
    mesh: Mesh
    shardings: dict[str, NamedSharding]
    shapes: dict[str, tuple[int, ...]]

    def traced(self) -> contextlib.AbstractContextManager[None]:
        """The context in which functions of the model are traced."""
        spec = self.shardings["llm/embedder/input_embedding"].spec
        return sharding.use_mesh(self.mesh, table_by_feature="data" in spec[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class Session(Layout):
    """A model ready to be given parameters, with the text side that fits it."""

    tokenizer: Tokenizer

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
    layout = open_layout(config)
    if tokenizer.vocab_size != layout.model.llm_config.vocab_size:
        raise UserError(
            f"config.tokenizer {config['tokenizer']!r} has {tokenizer.vocab_size} tokens, but "
            f"config.model.llm.vocab_size is {layout.model.llm_config.vocab_size}."
        )
    return Session(**vars(layout), tokenizer=tokenizer)


def open_layout(config: Mapping[str, Any], devices: Sequence[jax.Device] | None = None) -> Layout:
    """Builds the model and says where its parameters are to lie.

    Args:
      config: with model, mesh and sharding; dtypes that are `auto` become those of this machine.
      devices: of the mesh; None for all.

    Raises:
      UserError: parts that do not go together.
    """
    config = precision.resolved(config)
    model = make_model(config["model"])
    mesh = sharding.make_mesh(**config["mesh"], devices=devices)
    boxed = abstract_params(model)
    shapes = {name: x.shape for name, x in trees.flatten(nn.unbox(boxed)).items()}
    if model.lora.rank and not any(map(is_adapter, shapes)):
        raise UserError(
            f"config.model.lora.targets {model.lora.targets!r} matches no matrix that can have an "
            "adapter; their names look like 'llm/layers/attn/q_einsum/w'."
        )
    return Layout(
        config=config,
        model=model,
        mesh=mesh,
        shardings=sharding.param_shardings(mesh, boxed, config["sharding"]),
        shapes=shapes,
    )


def kept_as(layout: Layout, trained: Collection[str]) -> dict[str, str]:
    """How training keeps each parameter: a float dtype, or a kind of quantization."""
    config = layout.config
    kind, images = config.get("quantize", ""), config.get("quantize_images", False)

    def kept(name: str) -> str:
        if name in trained:
            return config["trainable_dtype"]
        small = kind and is_quantized(name, layout.shapes[name], images)
        return kind if small else config["frozen_dtype"]

    return {name: kept(name) for name in layout.shapes}


def load_params(session: Session, dtype_of: Callable[[str], str]) -> Flat:
    """The parameters that the config's `init` names, each in its sharding and dtype.

    Adapters that it does not hold begin anew, which is as nothing.

    Args:
      session: from `open_session`.
      dtype_of: parameter name -> dtype name, or int8, int4 or nf4 for a matrix to be quantized
        as it is read.

    Raises:
      UserError: not found, or it does not fit the model.
    """
    kinds = {name: dtype_of(name) for name in session.shapes}
    small = {name: kind for name, kind in kinds.items() if kind in KINDS}
    targets = {
        name: jax.ShapeDtypeStruct(
            shape, "float32" if name in small else kinds[name], sharding=session.shardings[name]
        )
        for name, shape in session.shapes.items()
    }
    return _Loading(session, targets, small).load(session.config)


@dataclasses.dataclass
class _Loading:
    """What is wanted: targets by name, and the kind of quantization of some."""

    session: Session
    targets: dict[str, jax.ShapeDtypeStruct]
    small: dict[str, str]

    def load(self, config: Mapping[str, Any], above: Collection[str] = ()) -> Flat:
        """All parameters but those `above`, which a run that started from these has trained."""
        source = config["init"]
        wanted = {name: t for name, t in self.targets.items() if name not in above}
        if not wanted:
            return {}
        if not source:
            return self._quantized(self._random(wanted, config["seed"]))
        if (path := pathlib.Path(source)).is_dir() and is_run(path):
            return self._from_run(path, above)
        checkpoint = sources.open_checkpoint(source)
        return self.place(
            {name: x for name, x in checkpoint.tensors.items() if name not in above},
            wanted,
            what=f"Checkpoint {checkpoint.path}",
            lora=checkpoint.spec.get("lora"),
        )

    def place(self, tensors, wanted, *, what: str, lora: Mapping[str, Any] | None = None) -> Flat:
        """Brings a checkpoint's tensors to the devices, and makes the adapters it lacks."""
        _check_scale(what, lora, self.session)
        new = {n: t for n, t in wanted.items() if is_adapter(n) and n not in tensors}
        wanted = {name: t for name, t in wanted.items() if name not in new}
        tensors = dict(resampled(tensors, wanted, what))
        trees.check_same(wanted, tensors, what=what)
        small = self._quantized(tensors, wanted)
        rest = {name: t for name, t in wanted.items() if name not in small}
        made = self._random(new, self.session.config["seed"]) if new else {}
        return {**small, **load({n: tensors[n] for n in rest}, rest, what=what), **made}

    def _quantized(self, values: dict[str, Any], targets=None) -> Flat:
        """Those of the values that are to be quantized; arrays beside them come along."""
        done = {}
        for kind in set(self.small.values()):
            names = [name for name in values if self.small.get(name) == kind]
            done |= quantized(values, targets, names, kind, apart=False)
        return done if targets is not None else {**values, **done}

    def _random(self, targets: Mapping[str, jax.ShapeDtypeStruct], seed: int) -> Flat:
        @functools.partial(jax.jit, out_shardings={n: t.sharding for n, t in targets.items()})
        def init(key):
            flat = trees.flatten(init_params(self.session.model, key))
            return {name: flat[name].astype(t.dtype) for name, t in targets.items()}

        return init(jax.random.key(seed))

    def _from_run(self, path: pathlib.Path, above: Collection[str]) -> Flat:
        """A run directory: what it trained, over the base it started from."""
        config = read_config(path)
        trained = set(config["_trained"])
        checkpoints = Checkpoints(path, read_only=True) if (path / FOLDER).is_dir() else None
        step = checkpoints and checkpoints.latest()
        if step is None:
            raise UserError(f"Run directory {path} holds no whole checkpoint.")
        what = f"Run directory {path}"
        _check_scale(what, config["model"].get("lora"), self.session)
        if foreign := sorted(trained - self.targets.keys()):
            raise UserError(f"{what} trained what this config's model lacks: {foreign[:3]} ….")
        params = checkpoints.restore_params(step, {name: self.targets[name] for name in trained})
        params = self._quantized({n: x for n, x in params.items() if n not in above})
        return {**self.load(config, {*above, *trained}), **params}


def _check_scale(what: str, spec: Mapping[str, Any] | None, session: Session) -> None:
    """Checks that adapters which are there already mean the same in this model."""
    theirs, ours = lora_config(spec or {}), session.model.lora
    if not theirs.rank:
        return
    if not ours.rank:
        raise UserError(
            f"{what} holds LoRA adapters, and this config's model.lora.rank is 0; merge them into "
            "a checkpoint with tools/convert.py and start from that."
        )
    kinds = [(x.rank, x.alpha, x.rslora) for x in (theirs, ours)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{what} holds LoRA adapters of (rank, alpha, rslora) {kinds[0]}, but this config's "
            f"model.lora says {kinds[1]}."
        )


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
      dtype: of the parameters that are not quantized; None for those of training.
      mesh: see `on_mesh`.

    Raises:
      UserError: not a run directory, or no whole checkpoint.
    """
    run = pathlib.Path(run)
    config = {**read_config(run), **on_mesh(mesh)}
    session = open_session(config, Tokenizer.from_file(run / TOKENIZER_FILE))
    start = dataclasses.replace(session, config={**session.config, "init": str(run)})
    kept = kept_as(session, config["_trained"])

    def dtype_of(name: str) -> str:
        return kept[name] if kept[name] in KINDS else dtype or kept[name]

    return session, load_params(start, dtype_of)
