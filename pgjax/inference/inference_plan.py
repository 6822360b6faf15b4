"""The plan of inference: the memory a checkpoint needs on a device, and its highest speed."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from pgjax import trees
from pgjax.checkpoints import released
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.locate import find_released
from pgjax.config import RunConfig, parse_config
from pgjax.config.init_sizes import variants_of
from pgjax.console import Phase, duration, gib, si, table
from pgjax.devices.bounds import Bounds, bounds
from pgjax.devices.compiled import Figures, figures
from pgjax.devices.data_sheets import Device
from pgjax.devices.precision import AUTO, resolved
from pgjax.devices.targets import target_devices
from pgjax.inference.batch_size import PROMPT
from pgjax.inference.lengths import compiled_length
from pgjax.loading.compiler_options import compiler_options
from pgjax.loading.decode_layout import abstract_decode_layout, to_decode_layout
from pgjax.loading.model_context import ShardedModel, for_answering, open_sharded_model
from pgjax.loading.quantize_on_load import abstract_param
from pgjax.loading.run_directory import is_run, read_run
from pgjax.loading.storage import answering_dtypes, storage_dtypes, with_quantized
from pgjax.models.paligemma import Cache
from pgjax.models.quantized import check_kind


@dataclasses.dataclass(frozen=True)
class _Source:
    """A checkpoint without its weights.

    `storage` gives the dtype or kind of quantization of each parameter of a model.
    """

    config: RunConfig
    storage: Callable[[ShardedModel], dict[str, str]]


@dataclasses.dataclass(frozen=True)
class InferencePlan:
    """What inference needs: a text for people, whether it fits, and a report for programs."""

    text: str
    fits: bool
    report: dict[str, Any]


def plan_inference(
    source: str,
    device: Device,
    *,
    quantize: str | None = None,
    quantize_images: bool = False,
    base: str | None = None,
    rows: int = 1,
    max_new_tokens: int = 64,
) -> InferencePlan:
    """Plans inference with a checkpoint on one device, without its weights.

    Two programs, the prefill of image and prompt and the step that adds a token, are compiled by
    the device's own compiler where that is installed, else by that of this machine's devices.

    Args:
      source: as for `pgjax.load`; a released checkpoint need not be downloaded, and of files only
        the headers are read.
      device: that is to run it.
      quantize: as for `pgjax.load`.
      quantize_images: as for `pgjax.load`.
      base: as for `pgjax.load`.
      rows: examples decoded together.
      max_new_tokens: longest answer in tokens.

    Raises:
      UserError: the checkpoint is not known.
    """
    if quantize:
        check_kind(quantize)
    found = _source(source, base)
    config = resolved(for_answering(found.config, {"data": 1, "model": 1}), device.precision)
    devices = target_devices(device, 1) or jax.devices()[:1]
    sharded = open_sharded_model(config, devices)
    storage = with_quantized(found.storage(sharded), sharded, quantize, quantize_images)
    params = _parameters(sharded, storage)
    tokens = compiled_length(max_new_tokens)
    prefill, step, cache = _programs(sharded, params, rows, tokens)
    made = {}
    for name, lowered in (("prefill", prefill), ("token", step)):
        with Phase(f"compiling: {name}"):
            made[name] = figures(lowered, sharded.mesh.devices, options=compiler_options())
    report = _report(sharded, device, params, cache, made, rows, max_new_tokens)
    return InferencePlan(_text(sharded, device, report, made), report["fits"], report)


def _source(name: str, base: str | None) -> _Source:
    path = pathlib.Path(name).expanduser()
    if is_run(path):
        run = read_run(path)
        return _Source(run.config, lambda sharded: storage_dtypes(sharded, run.trained))
    release = released.get(name)
    if release and not path.exists() and not any(map(find_released, release.files)):
        return _of_release(release)
    checkpoint = open_checkpoint(name, base)
    return _Source(
        _config(checkpoint.spec),
        lambda sharded: answering_dtypes(sharded, checkpoint.tensors, None),
    )


def _of_release(release: released.Release) -> _Source:
    """A released checkpoint by its name; main branches hold float32, PaliGemma 2's bfloat16."""
    variants = variants_of(release.name) or {}
    spec = {"res": release.res, **{tower: {"variant": v} for tower, v in variants.items()}}
    dtype = release.branch
    if dtype == "main":
        dtype = "bfloat16" if release.name.startswith(released.PALIGEMMA_2) else "float32"
    return _Source(_config(spec), lambda sharded: answering_dtypes(sharded, {}, dtype))


def _config(spec: Mapping[str, Any]) -> RunConfig:
    model = {**spec, "remat": "none", "img_dtype": AUTO, "llm_dtype": AUTO}
    return parse_config({"model": model})


def _parameters(sharded: ShardedModel, storage: Mapping[str, str]) -> dict[str, Any]:
    """Shapes of the parameters in the decode layout."""
    described = [(n, x, storage[n], sharded.shardings[n]) for n, x in sharded.shapes.items()]
    if sharded.mesh.devices.flat[0].platform != "cpu":
        return _placed(sharded, {args[0]: abstract_decode_layout(*args) for args in described})
    params = {args[0]: abstract_param(*args) for args in described}

    def to_layout(params):
        params = dict(params)
        layers = to_decode_layout(params)
        return params | layers

    return _placed(sharded, jax.eval_shape(to_layout, params))


def _placed(sharded: ShardedModel, tree: Any) -> Any:
    where = NamedSharding(sharded.mesh, PartitionSpec())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), nn.unbox(tree)
    )


def _programs(
    sharded: ShardedModel, params: dict[str, Any], rows: int, tokens: int
) -> tuple[jax.stages.Lowered, jax.stages.Lowered, Cache]:
    """Prefill and the step of one token, lowered, and the shapes of the cache between them."""
    model, res = sharded.model, sharded.config.model.res

    def prefill(params, image, text, mask_ar, mask_input):
        options = {"max_new_tokens": tokens, "cache_dtype": model.llm_dtype, "method": "prefill"}
        variables = {"params": trees.unflatten(params)}
        return model.apply(variables, image, text, mask_ar, mask_input, **options)

    def extend(params, token, cache):
        return model.apply({"params": trees.unflatten(params)}, token, cache, method="extend")

    def shape(dtype, *dims):
        return _placed(sharded, jax.ShapeDtypeStruct((rows, *dims), dtype))

    text = shape(jnp.int32, PROMPT)
    inputs = shape(jnp.float32, res, res, 3), text, text, shape(jnp.bool_, PROMPT)
    with sharded.traced():
        _, cache = _placed(sharded, jax.eval_shape(prefill, params, *inputs))
        return (
            jax.jit(prefill).lower(params, *inputs),
            jax.jit(extend, donate_argnums=2).lower(params, shape(jnp.int32), cache),
            cache,
        )


def _report(
    sharded: ShardedModel,
    device: Device,
    params: Any,
    cache: Cache,
    made: Mapping[str, Figures],
    rows: int,
    max_new_tokens: int,
) -> dict[str, Any]:
    token = made["token"]
    least = {name: _bounds(f, device) for name, f in made.items()}
    peak = max(f.peak for f in made.values())
    seconds = None
    if least["prefill"] and least["token"]:
        seconds = least["prefill"].seconds + (max_new_tokens - 1) * least["token"].seconds
    return {
        "compiler": token.compiler,
        "device": device.name,
        "batch_size": rows,
        "max_new_tokens": max_new_tokens,
        "fits": peak <= device.usable_bytes,
        "usable_bytes": device.usable_bytes,
        "parameters_bytes": _nbytes(params),
        "cache_bytes": _nbytes(cache),
        "cache_tokens": cache.valid.shape[1],
        "temporaries_bytes": {name: f.temporaries for name, f in made.items()},
        "peak_bytes": peak,
        "flops": {name: f.cost and f.cost.flops for name, f in made.items()},
        "bytes_per_token": token.cost and token.cost.memory_bytes,
        "prefill_seconds_at_least": least["prefill"] and least["prefill"].seconds,
        "tokens_per_second_at_most": least["token"] and rows / least["token"].seconds,
        "bound_by": least["token"] and least["token"].by,
        "answer_seconds_at_least": seconds,
    }


def _bounds(made: Figures, device: Device) -> Bounds | None:
    return bounds(made.cost, device.rates) if made.cost and device.rates else None


def _nbytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _text(
    sharded: ShardedModel, device: Device, report: Mapping[str, Any], made: Mapping[str, Figures]
) -> str:
    model, rows = sharded.model, report["batch_size"]
    size = sum(math.prod(shape) for shape in sharded.shapes.values())
    temporaries = report["temporaries_bytes"]
    memory = [
        (f"parameters ({size:,})", report["parameters_bytes"]),
        (f"cache of {rows} × {report['cache_tokens']} tokens", report["cache_bytes"]),
        ("temporary: image and prompt, with the cache", temporaries["prefill"]),
        ("temporary: a token", temporaries["token"]),
        ("peak, of the compiled programs", report["peak_bytes"]),
        (f"usable on {device.name}", report["usable_bytes"]),
    ]
    verdict = "fits" if report["fits"] else "does NOT fit"
    by = {"cuda": "CUDA's compiler", "tpu": "the TPU's compiler"}.get(report["compiler"], "a CPU's")
    lines = [
        f"Answers of {report['max_new_tokens']} tokens to {rows} × an image of "
        f"{sharded.config.model.res} px and {PROMPT} tokens, on {device.name}; computes in "
        f"{model.img_dtype} (image tower) and {model.llm_dtype} (decoder); compiled by {by}"
        + ("." if report["compiler"] != "cpu" or device.target is None else ", in its place."),
        "",
        table(("per device", ""), [(name, gib(value)) for name, value in memory]),
        f"It {verdict}: {gib(report['peak_bytes'])} of {gib(report['usable_bytes'])}.",
    ]
    if report["answer_seconds_at_least"] is None:
        return "\n".join(lines)
    work = []
    for name, what in (("prefill", "image and prompt"), ("token", "a token")):
        cost, least = made[name].cost, _bounds(made[name], device)
        assert cost is not None and least is not None  # as the answer's seconds are known
        took = f"{duration(least.seconds)} ({least.by})"
        work.append((what, si(cost.flops, "FLOP"), si(cost.memory_bytes, "B"), took))
    return "\n".join([
        *lines,
        "",
        table(("per device", "products", "memory traffic", "at least"), work),
        f"By the data sheet at most {report['tokens_per_second_at_most']:.3g} tokens/s; an answer "
        f"of {report['max_new_tokens']} tokens takes "
        f"{duration(report['answer_seconds_at_least'])} or more.",
    ])  # fmt: skip
