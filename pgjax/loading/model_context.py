"""Builds the model that a config describes, on its mesh, with the tokenizer that fits it."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding

from pgjax import sharding, trees
from pgjax.checkpoints.locate import find_tokenizer
from pgjax.config import MeshConfig, RunConfig, parse_config, to_dict
from pgjax.data.pipeline import Pipeline
from pgjax.devices import precision
from pgjax.errors import UserError
from pgjax.models.lora import is_adapter
from pgjax.models.paligemma import PaliGemma, abstract_params, make_model
from pgjax.schema import parse
from pgjax.text.tokenizer import Tokenizer

Flat = dict[str, jax.Array]  # parameters by name, such as "llm/layers/mlp/linear"


@dataclasses.dataclass(frozen=True, eq=False)  # hashable by identity, as a key of caches
class ShardedModel:
    """A model and the shardings of its parameters on a mesh; the parameters are not loaded.

    Attributes:
      config: the config with a dtype for each `auto`.
      model: the Flax module.
      mesh: the devices, with the axes `data` and `model`.
      shardings: of the parameters, by name.
      shapes: of the parameters, by name.
    """

    config: RunConfig
    model: PaliGemma
    mesh: Mesh
    shardings: dict[str, NamedSharding]
    shapes: dict[str, tuple[int, ...]]

    def traced(self) -> contextlib.AbstractContextManager[None]:
        """The context in which functions that call the model must be traced."""
        spec = self.shardings["llm/embedder/input_embedding"].spec
        return sharding.use_mesh(self.mesh, embedding_by_feature="data" in spec[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class ModelContext(ShardedModel):
    """A `ShardedModel` with the tokenizer that fits it."""

    tokenizer: Tokenizer

    def pipeline(self, pp: str) -> Pipeline:
        """Parses a preprocessing pipeline, whose ops may use the tokenizer.

        Raises:
          UserError: an unknown op or argument.
        """
        return Pipeline.parse(pp, tokenizer=self.tokenizer)


def open_tokenizer(name: str) -> Tokenizer:
    """Opens a tokenizer.

    Args:
      name: `tiny`, which ships with pgjax; `gemma`, which is downloaded where it is not found; or
        the path of a `tokenizer.model`.

    Raises:
      UserError: it is not found, or is not a SentencePiece model.
    """
    if name == "tiny":
        return Tokenizer.tiny()
    if name == "gemma":
        return Tokenizer.from_file(find_tokenizer())
    return Tokenizer.from_file(name)


def open_model_context(
    config: RunConfig | Mapping[str, Any], tokenizer: Tokenizer | None = None
) -> ModelContext:
    """Builds the model, its mesh and its tokenizer; parameters are not loaded.

    Args:
      config: of a run; a plain dict is parsed first.
      tokenizer: an open one; None for the one that the config names.

    Raises:
      UserError: the tokenizer is not found, or its vocabulary is not the model's; or as for
        `open_sharded_model`.
    """
    config = parse_config(config)
    tokenizer = tokenizer or open_tokenizer(config.tokenizer)
    sharded = open_sharded_model(config)
    if tokenizer.vocab_size != sharded.model.llm_config.vocab_size:
        raise UserError(
            f"config.tokenizer {config.tokenizer!r} has {tokenizer.vocab_size} tokens, but "
            f"config.model.llm.vocab_size is {sharded.model.llm_config.vocab_size}."
        )
    return ModelContext(**vars(sharded), tokenizer=tokenizer)


def open_sharded_model(
    config: RunConfig | Mapping[str, Any], devices: Sequence[sharding.JaxDevice] | None = None
) -> ShardedModel:
    """Builds the model, its mesh and the shardings of its parameters.

    Args:
      config: of a run; a plain dict is parsed first. Dtypes that are `auto` become those that suit
        this machine.
      devices: of the mesh; None for all devices of all processes.

    Raises:
      UserError: the sizes of the model or of the mesh, the sharding rules, or the targets of
        adapters do not go together.
    """
    config = precision.resolved(parse_config(config))
    model = make_model(to_dict(config.model))
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.model, devices=devices)
    boxed = abstract_params(model)
    shapes = {name: x.shape for name, x in trees.flatten(nn.unbox(boxed)).items()}
    if model.lora.rank and not any(map(is_adapter, shapes)):
        raise UserError(
            f"config.model.lora.targets {model.lora.targets!r} matches no matrix that can have an "
            "adapter; their names look like 'llm/layers/attn/q_einsum/w'."
        )
    return ShardedModel(
        config=config,
        model=model,
        mesh=mesh,
        shardings=sharding.param_shardings(mesh, boxed, config.sharding),
        shapes=shapes,
    )


def for_answering(config: RunConfig, mesh: Mapping[str, int] | None) -> RunConfig:
    """Returns a config with the mesh and the sharding for inference.

    No parameter is split along `data`, since gathering them at every token would take too long.

    Args:
      config: of a run or a checkpoint.
      mesh: sizes of the axes `data` and `model`; None puts all devices on `data`.

    Raises:
      ConfigError: the mesh has other axes, or sizes that are not whole numbers.
    """
    sizes = parse(MeshConfig, mesh or {}, "mesh")
    strategy = "replicate" if sizes.model == 1 else "tensor"
    return dataclasses.replace(config, mesh=sizes, sharding=((".*", strategy),))
