"""Measures training steps of pgjax by mode, beside a plain JAX step and transformers.

    python tools/bench/training.py [--size mid] [--modes full attention lora qlora] [--batch 4]

Random weights and the same shapes for all: `--text_len` tokens of which the last `--target` are
supervised, Adam (plain SGD in mode `attention`). The plain step is what one writes first: logits of
every text position at once, all layers' activations kept, frozen parameters left out of the
differentiation. transformers (and peft for `lora`) runs on torch, where they are installed. Each is
measured in a process of its own, in turn; medians are printed. Temporary memory is XLA's analysis.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    SIZES,
    Row,
    installed,
    measure_in_turn,
    median,
    peaks,
    random_arrays,
    seconds_of,
)

MODES = ("full", "attention", "lora", "qlora")
PROMPT_ID = 1000


def config(args: argparse.Namespace, mode: str) -> dict[str, Any]:
    """Returns the config of a run that trains a model of a size."""
    from pgjax.recipes import adapted, default_config

    c = default_config()
    size = SIZES[args.size]
    c.model.res = args.res or size["res"]
    c.model.img, c.model.llm = dict(size["img"]), dict(size["llm"])
    c.model.remat = args.remat
    c.init = ""
    c.adapt = mode
    c.total_steps = 1000
    c.loss_chunk = args.loss_chunk
    c.input.batch_size = args.batch
    c.input.pp = f"for_training({args.text_len})"
    if args.dtype:
        c.model.img_dtype = c.model.llm_dtype = c.frozen_dtype = args.dtype
    return adapted(c).to_dict()


def batch(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Makes a batch of images, prompts and targets."""
    rng = np.random.default_rng(0)
    res = args.res or SIZES[args.size]["res"]
    shape = (args.batch, args.text_len + 1)
    vocab = 1600 if args.size == "tiny" else 256_000
    supervised = np.zeros(shape, np.int32)
    supervised[:, -args.target :] = 1
    return {
        "image": rng.uniform(-1, 1, (args.batch, res, res, 3)).astype(np.float32),
        "text": rng.integers(4, vocab, shape).astype(np.int32),
        "mask_ar": supervised,
        "mask_loss": supervised,
    }


@dataclasses.dataclass
class Step:
    """A training step as `pgjax.train` compiles it, before there are arrays."""

    builder: Any
    compiled: Any
    frozen: dict[str, Any]  # abstract arrays
    trainable: dict[str, Any]  # abstract arrays
    seconds: tuple[float, float]  # the times of tracing and of compiling

    def planned(self) -> Any:
        """The memory that the step needs, as `pgjax.training.step_memory.StepMemory` in bytes."""
        from pgjax.devices.compiled import figures_of
        from pgjax.devices.targets import compiler_of
        from pgjax.training.step_memory import CompiledStepMemory, estimate_memory

        estimate = estimate_memory(self.builder)
        made = figures_of(self.compiled, compiler_of(self.builder.sharded.mesh.devices))
        return CompiledStepMemory(**vars(estimate), compiled=made)


def compile_step(args: argparse.Namespace, mode: str) -> Step:
    """Compiles the step of a mode, without any arrays."""
    import jax

    from pgjax import sharding
    from pgjax.loading.model_context import open_sharded_model
    from pgjax.training.step_builder import make_step_builder

    start = time.perf_counter()
    builder = make_step_builder(open_sharded_model(config(args, mode)), 1000)
    state, frozen = builder.abstract()
    rows = sharding.batch_sharding(builder.sharded.mesh)
    inputs = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows)
        for name, x in batch(args).items()
    }
    lowered = builder.lower(state, frozen, inputs)
    traced = time.perf_counter()
    compiled = lowered.compile()
    seconds = traced - start, time.perf_counter() - traced
    return Step(builder, compiled, frozen, state.params, seconds)


def run_step(args: argparse.Namespace, step: Step) -> tuple[Callable[[], float], dict[str, Any]]:
    """Returns a function that takes a step, from random weights on, and returns the loss."""
    import jax

    from pgjax import sharding

    frozen, state = random_arrays(step.frozen), step.builder.state(random_arrays(step.trainable))
    inputs = sharding.to_device(step.builder.sharded.mesh, batch(args))
    facts, holder = _facts(step.compiled, state.params, state), [state]
    del state  # A step donates it.

    def run() -> float:
        holder[0], values = step.compiled(holder[0], frozen, inputs)
        jax.block_until_ready((holder[0], values))
        return float(values["loss"])

    return run, facts


def run_pgjax(args: argparse.Namespace, mode: str) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Returns a function that takes a step as `pgjax.train` compiles it."""
    return run_step(args, compile_step(args, mode))


def run_plain(args: argparse.Namespace, mode: str) -> tuple[Callable[[], None], dict[str, Any]]:
    """Returns a function that takes the same step from the logits of all text positions."""
    import jax
    import jax.numpy as jnp
    import optax

    from pgjax import trees
    from pgjax.models.loss import shift
    from pgjax.training.step_builder import make_step_builder

    args.remat = "none"
    builder, frozen, trainable = _program(args, mode, make_step_builder)
    model = builder.sharded.model
    tx = optax.sgd(0.03) if mode == "attention" else optax.adam(1e-5, b2=0.999)

    def loss(trainable, frozen, inputs):
        variables = {"params": trees.unflatten({**frozen, **trainable})}
        text, mask_ar, targets, supervised = shift(
            inputs["text"], inputs["mask_ar"], inputs["mask_loss"]
        )
        hidden = model.apply(variables, inputs["image"], text, mask_ar)
        logits = model.apply(variables, hidden, method="logits")
        xent = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return jnp.mean(jnp.sum(xent * supervised, axis=1) / jnp.sum(supervised, axis=1))

    def step(params, opt_state, frozen, inputs):
        value, grads = jax.value_and_grad(loss)(params, frozen, inputs)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    inputs = {k: jnp.asarray(x) for k, x in batch(args).items()}
    holder = [trainable, tx.init(trainable)]
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*holder, frozen, inputs).compile()

    def run() -> None:
        *holder[:], value = compiled(*holder, frozen, inputs)
        jax.block_until_ready((holder, value))

    return run, _facts(compiled, trainable, holder)


def _program(args, mode, make_step_builder):
    """Returns the step builder, and random frozen and trainable parameters."""
    from pgjax.loading.model_context import open_sharded_model
    from pgjax.loading.parameters import load_parameters

    builder = make_step_builder(open_sharded_model(config(args, mode)), 1000)
    params = load_parameters(builder.sharded, builder.storage)
    trainable = {name: params.pop(name) for name in builder.multipliers}
    return builder, params, trainable


def _facts(compiled, trainable, state) -> dict[str, Any]:
    import jax

    return {
        "trains": sum(x.size for x in trainable.values()),
        "state": sum(x.nbytes for x in jax.tree.leaves(state)),
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
    }


def run_transformers(
    args: argparse.Namespace, mode: str
) -> tuple[Callable[[], None], dict[str, Any]]:
    """Returns a function that takes a step of the same shapes by torch."""
    return run_network(args, transformers_network(args, mode), mode)


def transformers_network(args: argparse.Namespace, mode: str) -> Any:
    """Makes transformers' PaliGemma with random weights, in bfloat16 on a GPU, else float32."""
    net = random_network(args.size, args.res).train()
    if mode == "attention":
        for name, x in net.named_parameters():
            x.requires_grad_("language_model" in name and "self_attn" in name)
    elif mode == "lora":
        from peft import LoraConfig, get_peft_model

        names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        target = rf".*language_model.*\.({'|'.join(names)})"
        net = get_peft_model(net, LoraConfig(r=8, target_modules=target))
    return net


def random_network(size: str, res: int = 0) -> Any:
    """Makes `PaliGemmaForConditionalGeneration` of a size, on the GPU if there is one."""
    import torch
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    from pgjax.checkpoints.hf_export import model_config
    from pgjax.models.paligemma import explicit, make_model

    sizes = SIZES[size]
    spec = model_config(explicit(make_model({**sizes, "res": res or sizes["res"]})), "float32")
    cuda, before = torch.cuda.is_available(), torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if cuda else torch.float32)
    try:
        with torch.device("cuda" if cuda else "cpu"):
            # By default, transformers takes scaled-dot-product attention.
            return PaliGemmaForConditionalGeneration(PaliGemmaConfig(**spec))
    finally:
        torch.set_default_dtype(before)


def run_network(
    args: argparse.Namespace, net: Any, mode: str
) -> tuple[Callable[[], None], dict[str, Any]]:
    """Returns a function that takes a step of Adam, or of SGD in the mode `attention`."""
    import torch

    parameters = list(net.parameters())
    where, dtype = parameters[0].device, parameters[0].dtype
    cuda = where.type == "cuda"
    trained = [x for x in parameters if x.requires_grad]
    if mode == "attention":
        optimizer = torch.optim.SGD(trained, lr=1e-5)
    else:
        optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0, fused=cuda)
    data = batch(args)
    config = (net.get_base_model() if hasattr(net, "get_base_model") else net).config
    side = data["image"].shape[1] // config.vision_config.patch_size
    head = np.full((args.batch, side**2), config.image_token_index)
    ids = torch.tensor(np.concatenate([head, data["text"][:, :-1]], axis=1), device=where)
    labels = np.concatenate([head * 0 - 100, data["text"][:, :-1]], axis=1)
    labels[:, : -args.target] = -100
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.tensor(labels != -100, device=where).long(),
        "pixel_values": torch.tensor(data["image"].transpose(0, 3, 1, 2), device=where).to(dtype),
        "labels": torch.tensor(labels, device=where),
    }

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        net(**inputs).loss.backward()
        optimizer.step()
        if cuda:
            torch.cuda.synchronize()

    return run, {"trains": sum(x.numel() for x in trained)}


RUNS = {"pgjax": run_pgjax, "plain": run_plain, "transformers": run_transformers}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measures `NAME/MODE` in this process: the median time of a step, memory, and counts."""
    name, mode = args.measure.split("/")
    run, facts = RUNS[name](args, mode)
    seconds = sorted(seconds_of(run, args.steps))
    return {"seconds": seconds[len(seconds) // 2], "peak": device_peak(), **facts}


def device_peak() -> int | None:
    """Returns the most bytes that were in use on an accelerator, if it reports them."""
    if "jax" not in sys.modules or ("torch" in sys.modules and _torch_peak() is not None):
        return _torch_peak()
    import jax

    stats = jax.devices()[0].memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None


def _torch_peak() -> int | None:
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else None


def flops(args: argparse.Namespace, mode: str) -> float:
    """Returns the FLOPs of a step's products; a multiplication and addition count as 2.

    Forward once; backward once more for what a gradient passes through, and once for matrices that
    train. Recomputation does not count, as usual for model FLOPs utilisation.
    """
    from pgjax.models.paligemma import make_model

    size = SIZES[args.size]
    model = make_model({**size, "res": args.res or size["res"]})
    img, llm, patches = model.img_config, model.llm_config, model.num_patches
    tokens = patches + args.text_len
    tower = img.depth * (4 * img.width**2 + 2 * img.width * img.mlp_dim) + img.width * llm.width
    heads = llm.num_heads * llm.head_dim
    attention = llm.depth * llm.width * (2 * heads + 2 * llm.num_kv_heads * llm.head_dim)
    mlp = llm.depth * 3 * llm.width * llm.mlp_dim
    table = llm.vocab_size * llm.width
    per_image = patches * (2 * tower + 4 * img.depth * img.width * patches)
    weights, products = tokens * 2 * (attention + mlp), tokens * 4 * llm.depth * heads * tokens
    logits = args.target * 2 * table
    if mode == "full":
        total = 3 * (per_image + weights + products + logits)
    else:
        trained = tokens * 2 * attention if mode == "attention" else 0
        total = per_image + 2 * weights + trained + 3 * products + 2 * logits
    return args.batch * total


def table(args: argparse.Namespace) -> list[Row]:
    """Measures everything, and returns the rows of the table."""
    subjects = [f"pgjax/{mode}" for mode in args.modes]
    if "plain" in args.peers:
        subjects.append(f"plain/{args.modes[0]}")
    if "transformers" in args.peers and installed("torch", "transformers"):
        subjects += [f"transformers/{m}" for m in args.modes if m != "qlora"
                     and (m != "lora" or installed("peft"))]  # fmt: skip
    keys = ("size", "res", "batch", "text_len", "target", "steps", "remat", "loss_chunk", "dtype")
    flags = [f"--{k}={getattr(args, k)}" for k in keys]
    results = measure_in_turn(__file__, subjects, args.repeats, flags)
    seconds = {s: median(r, "seconds") for s, r in results.items()}
    rows, top = [], peaks()
    where = f"batch {args.batch}, text {args.text_len}, target {args.target}"
    for subject, found in results.items():
        if not found:
            continue
        name, mode = subject.split("/")
        each = f"{args.size} step, {mode}, {name}"
        note = f"{found[0]['trains']:,} train; {where}"
        rows.append(Row(each, seconds[subject], "s", note))
        if "temporaries" in found[0]:
            rows.append(Row(f"{each}: temporaries", found[0]["temporaries"] / 2**20, "MiB"))
        if found[0]["peak"]:
            rows.append(Row(f"{each}: peak on the device", found[0]["peak"] / 2**20, "MiB"))
        if top and name == "pgjax":
            share = flops(args, mode) / seconds[subject] / top[0]
            rows.append(Row(f"{each}: model FLOPs utilisation", 100 * share, "%"))
        ours = f"pgjax/{mode}"
        if name != "pgjax" and results.get(ours):
            rows.append(Row(f"{each}: time over pgjax's", seconds[subject] / seconds[ours], "×"))
            if "temporaries" in found[0]:
                share = results[ours][0]["temporaries"] / found[0]["temporaries"]
                rows.append(Row(f"pgjax's temporaries over those of {name}, {mode}", share, "×"))
    return rows


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark."""
    parser.add_argument("--size", choices=list(SIZES), default="mid", help="the model")
    parser.add_argument(
        "--res", type=int, default=0, help="the resolution in pixels (default: that of the size)"
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["full"], help="what trains")
    parser.add_argument(
        "--peers", nargs="*", default=["plain", "transformers"], help="what to compare with"
    )
    parser.add_argument("--batch", type=int, default=4, help="examples per step")
    parser.add_argument("--text_len", type=int, default=128, help="text tokens")
    parser.add_argument("--target", type=int, default=32, help="the number of supervised tokens")
    parser.add_argument("--remat", default="dots", help="pgjax's remat policy; configs have full")
    parser.add_argument("--loss_chunk", type=int, default=16, help="pgjax's loss_chunk")
    parser.add_argument(
        "--dtype", default="", help="the dtype of computation (default: by the device)"
    )
    parser.add_argument("--steps", type=int, default=3, help="the steps that a process times")
    parser.add_argument("--repeats", type=int, default=3, help="the number of rounds")
    parser.add_argument("--measure", help=argparse.SUPPRESS)


def main() -> None:
    """Prints the table, or measures one subject."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    for row in table(args):
        print(row)


if __name__ == "__main__":
    main()
