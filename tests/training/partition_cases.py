"""Compiles steps and answers for 8 devices and prints what these send each other; a test reads it.

partition_cases.py CASE …       with eight CPU devices; a case is NAME=STRATEGY,DATA,MODEL,MODE,…
"""

import dataclasses
import json
import math
import sys

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from pgjax import sharding, trees
from pgjax.config import parse_config
from pgjax.decoding.decoders import make_decoder
from pgjax.decoding.generate import Rules
from pgjax.devices.program_cost import program_cost
from pgjax.loading.model_context import ShardedModel, for_answering, open_sharded_model
from pgjax.models.layers import Unstacked
from pgjax.models.paligemma import Cache
from pgjax.models.quantized import Quantized
from pgjax.recipes import adapted, transfer
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder
from pgjax.training.step_memory import abstract_batch

ROWS, TEXT, CHUNK, WIDTH = 40, 24, 8, 4  # WIDTH: bytes of float32, which a CPU computes in
MODEL = {
    "img": dict(width=128, depth=2, mlp_dim=512, num_heads=8),
    "llm": dict(
        width=256, depth=2, mlp_dim=1024, num_heads=8, num_kv_heads=1, head_dim=32, vocab_size=2048
    ),
}
TABLE = "llm/embedder/input_embedding"
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclasses.dataclass(frozen=True)
class Case:
    """A mesh, a strategy, and what is compiled for it."""

    strategy: str
    data: int
    model: int
    mode: str  # an adaptation mode, or a sampler
    parts: int = 1  # of accumulation
    images: int = 1

    @classmethod
    def parse(cls, text: str) -> "Case":
        """`fsdp,8,1,full,2,1`."""
        strategy, data, model, mode, *rest = text.split(",")
        return cls(strategy, int(data), int(model), mode, *map(int, rest))


def program_of(case: Case) -> TrainStepBuilder:
    """A training step, all dtypes float32."""
    c = transfer(
        "partition", train={}, evals={}, prompt="", target="", variant="3b", mode=case.mode,
        text_len=TEXT, steps=64, batch_size=ROWS, lr=1e-5,
    )  # fmt: skip
    c.model.res = 56
    c.model.img, c.model.llm = dict(MODEL["img"]), dict(MODEL["llm"])
    c.mesh.data, c.mesh.model = case.data, case.model
    c.sharding = ((".*", case.strategy),)
    c.grad_accum_steps, c.loss_chunk = case.parts, CHUNK
    c = adapted(c)
    c.frozen_dtype = c.model.img_dtype = c.model.llm_dtype = "float32"
    return make_step_builder(open_sharded_model(c.to_dict()), 64)


def sent_in_theory(case: Case, builder: TrainStepBuilder) -> dict[str, float]:
    """Bytes that each device has to send in a step, by kind.

    fsdp gathers a layer's parameters before they are used, in the forward pass and again for the
    backward pass (of a tower that has one); what trains has its gradient reduced, which a CPU does
    by an all-reduce. A token's row of the embedding is looked up where its features are, and goes
    to the token's device; the loss gathers the table, once for all parts of a batch. Where every
    device has the whole table, its gradient is reduced once for each of these uses. Under tensor
    parallelism each product
    that sums over a split axis is followed by an all-reduce of the device's rows: in the forward
    pass those behind attention and MLP, the first of them again when a layer is recomputed, and in
    the backward pass those to the inputs of the products before them.
    """
    n, m = case.data, case.model
    state, frozen = builder.abstract()
    trained = set(state.params)
    tower = any(name.startswith("img/") for name in trained)
    gathered = reduced = codes = 0.0
    for name, leaves in {**frozen, **state.params}.items():
        for leaf in jax.tree.leaves(leaves):
            axes = set(jax.tree.leaves(tuple(leaf.sharding.spec)))
            size = math.prod(leaf.shape) * leaf.dtype.itemsize
            if isinstance(leaves, Quantized):  # every device has all codes of a layer
                split = math.prod({"data": n, "model": m}[axis] for axis in axes)
                codes += 2 * size * (split - 1) / split
                continue
            size /= m if "model" in axes else 1
            twice = name.startswith("llm/layers/") or ("encoderblock" in name and tower)
            if "data" in axes:
                gathered += size * (2 if twice else 1 / case.parts if name == TABLE else 1)
            if name in trained:
                reduced += size * (2 if name == TABLE and "data" not in axes else 1)
    img, llm = builder.sharded.model.img_config, builder.sharded.model.llm_config
    patches = case.images * builder.sharded.model.num_patches
    rows = ROWS // case.parts / n
    decoder = rows * (patches + TEXT - 1) * llm.width * WIDTH
    encoder = rows * patches * img.width * WIDTH
    looked_up = rows * (TEXT - 1) * llm.width * WIDTH
    summed = llm.depth * decoder * 6 + img.depth * encoder * (7 if tower else 2)
    summed += looked_up + rows * CHUNK * llm.width * WIDTH
    moved = 0.0
    if "fsdp" in case.strategy:
        moved = looked_up * (2 if TABLE in trained else 1)
    found = {
        "all-gather": gathered * (n - 1) / n + codes,
        "all-reduce": 2 * reduced * (n - 1) / n + 2 * summed * (m - 1) / m,
        "all-to-all": moved * (n - 1) / n,
    }
    return {kind: size * case.parts for kind, size in found.items()}


def training(case: Case) -> tuple[jax.stages.Compiled, dict[str, float]]:
    """A compiled step and its theory."""
    builder = program_of(case)
    state, frozen = builder.abstract()
    batch = abstract_batch(builder, case.images)
    lowered = builder.lower(state, frozen, batch)
    return lowered.compile(compiler_options=QUICK), sent_in_theory(case, builder)


def answering(case: Case) -> tuple[jax.stages.Compiled, dict[str, float]]:
    """Compiled answers; rows never leave their device."""
    model = {"res": 56, **MODEL, "img_dtype": "float32", "llm_dtype": "float32"}
    mesh = {"data": case.data, "model": case.model}
    sharded = open_sharded_model(for_answering(parse_config({"model": model}), mesh))
    params = _unstacked(sharded)
    rows = sharding.batch_sharding(sharded.mesh)

    def array(shape, dtype):
        return jax.ShapeDtypeStruct((ROWS, *shape), dtype, sharding=rows)

    batch = {
        "image": array((56, 56, 3), jnp.float32),
        "text": array((8,), jnp.int32),
        "mask_ar": array((8,), jnp.int32),
        "mask_input": array((8,), bool),
        "index": array((), jnp.int32),
    }
    vocab = sharded.model.llm_config.vocab_size

    def answer(params, batch):
        variables = {"params": trees.unflatten(params)}
        inputs = [batch[k] for k in ("image", "text", "mask_ar", "mask_input")]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch["index"])
        everything = jnp.ones(vocab, bool)
        rules = Rules(keys, jnp.int32(4), batch["index"] >= 0, everything, ~everything)
        options = {"max_new_tokens": 4, "cache_dtype": jnp.float32, "method": "prefill"}
        return make_decoder(case.mode)(
            lambda: sharded.model.apply(variables, *inputs, **options),
            lambda token, cache: sharded.model.apply(variables, token, cache, method="extend"),
            Cache.take,
            rules,
            max_new_tokens=4,
        )

    with sharded.traced():
        lowered = jax.jit(answer, out_shardings=sharding.replicated(sharded.mesh)).lower(
            params, batch
        )
    return lowered.compile(compiler_options=QUICK), {}


def _unstacked(sharded: ShardedModel) -> dict:
    """Shapes of float32 parameters, with the decoder's layers apart."""
    found = {}
    for name, shape in sharded.shapes.items():
        where = sharded.shardings[name]
        if name.startswith("llm/layers/"):
            where = NamedSharding(sharded.mesh, PartitionSpec(*where.spec[1:]))
            layer = jax.ShapeDtypeStruct(shape[1:], jnp.float32, sharding=where)
            found[name] = Unstacked((layer,) * shape[0])
        else:
            found[name] = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where)
    return found


def main() -> None:
    """Prints a line of JSON for each case."""
    for text in sys.argv[1:]:
        case = Case.parse(text)
        is_sampler = case.mode.partition("(")[0] in (
            "greedy",
            "beam",
            "best_of",
            "top_k",
            "nucleus",
        )
        compiled, theory = (answering if is_sampler else training)(case)
        cost = program_cost(compiled.as_text())
        print(json.dumps({
            "case": text,
            "theory": theory,
            "sent": cost.collective_bytes,
            "flops": cost.flops,
            "collectives": [
                [c.kind, [[a.dtype, list(a.dims)] for a in c.results], c.times, c.op_name]
                for c in cost.collectives
            ],
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
