"""Opens what a config describes: tokenizer, model, mesh, pipelines and parameters."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding

from pgjax import sharding, trees
from pgjax.checkpoints import sources
from pgjax.data.pipeline import Pipeline
from pgjax.devices import precision
from pgjax.errors import UserError
from pgjax.models.lora import is_adapter
from pgjax.models.paligemma import PaliGemma, abstract_params, make_model
from pgjax.text.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.model"

Flat = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)  # hashable, by identity
class ShardedModel:
    """A model and where its parameters lie on a mesh; there are none yet, and no text."""

    config: Mapping[str, Any]
    model: PaliGemma
    mesh: Mesh
    shardings: dict[str, NamedSharding]
    shapes: dict[str, tuple[int, ...]]

    def traced(self) -> contextlib.AbstractContextManager[None]:
        """The context in which functions of the model are traced."""
        spec = self.shardings["llm/embedder/input_embedding"].spec
        return sharding.use_mesh(self.mesh, embedding_by_feature="data" in spec[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class ModelContext(ShardedModel):
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


def open_model_context(
    config: Mapping[str, Any], tokenizer: Tokenizer | None = None
) -> ModelContext:
    """Builds the parts; no parameter exists yet.

    Raises:
      UserError: parts that do not go together, such as a vocabulary larger than the model's.
    """
    tokenizer = tokenizer or open_tokenizer(config["tokenizer"])
    sharded = open_sharded_model(config)
    if tokenizer.vocab_size != sharded.model.llm_config.vocab_size:
        raise UserError(
            f"config.tokenizer {config['tokenizer']!r} has {tokenizer.vocab_size} tokens, but "
            f"config.model.llm.vocab_size is {sharded.model.llm_config.vocab_size}."
        )
    return ModelContext(**vars(sharded), tokenizer=tokenizer)


def open_sharded_model(
    config: Mapping[str, Any], devices: Sequence[jax.Device] | None = None
) -> ShardedModel:
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
    return ShardedModel(
        config=config,
        model=model,
        mesh=mesh,
        shardings=sharding.param_shardings(mesh, boxed, config["sharding"]),
        shapes=shapes,
    )


def mesh_for_answering(mesh: Mapping[str, int] | None) -> dict[str, Any]:
    """The part of a config that says where parameters lie for answering: no device waits for them.

    Args:
      mesh: sizes of `data` and `model`; None for all devices under `data`.
    """
    mesh = dict(mesh or {"data": -1, "model": 1})
    strategy = "replicate" if mesh["model"] == 1 else "tensor"
    return {"mesh": mesh, "sharding": ((".*", strategy),)}
