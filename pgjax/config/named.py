"""Values that name something registered, with options of its own, and pipelines of ops.

Optimizers, samplers and kinds of evaluation are defined in modules that import jax. Those of pgjax
are known here by their options; those of extensions, which are imported by now, by what
`pgjax.registry` holds of them.
"""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from pgjax.config import options
from pgjax.errors import ConfigError, UserError
from pgjax.registry import (
    DECODER_VARIANTS,
    EVALUATORS,
    IMAGE_VARIANTS,
    METRIC_NEEDS,
    METRICS,
    OPS,
    OPTIMIZERS,
    SAMPLERS,
    SOURCES,
)
from pgjax.schema import Rule, bind, entries, parse_value, shown, wrong

KINDS_OF_EVALUATION = ("answers", "perplexity")


def sources() -> Mapping[str, Any]:
    """Data sources by name."""
    return SOURCES


def metrics() -> Mapping[str, Any]:
    """Metrics by name."""
    return {name: metric.function for name, metric in METRICS.items()}


def submissions() -> tuple[str, ...]:
    """Formats that evaluation servers take, and "" for none."""
    return ("", *importlib.import_module("pgjax.evaluation.submissions").FORMATS)


def published() -> tuple[str, ...]:
    """Benchmarks with published scores, and "" for none."""
    return ("", *importlib.import_module("pgjax.benchmarks.published").PUBLISHED)


def check_source(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A data source, `{name: …, argument: …}`; an empty one stays empty.

    Raises:
      ConfigError: an unknown name, or arguments that the source does not take.
    """
    return _named(value, key, sources) if value else {}


def check_metric(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A metric with its options, `{name: …, option: …}`.

    Raises:
      ConfigError: an unknown name, or options that the metric does not take.
    """
    return _named(value, key, metrics, of_metric=True)


def metric_options(metric: Any) -> tuple[Any, tuple[str, ...]]:
    """A metric, whose signature says its options, and the parameters that are none."""
    parameters = inspect.signature(metric).parameters.values()
    given = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    return metric, (*given, *METRIC_NEEDS)


def _named(
    value: Mapping[str, Any],
    key: str,
    table: Callable[[], Mapping[str, Any]],
    *,
    of_metric: bool = False,
) -> dict[str, Any]:
    name = parse_value(str, _required(value, key, "name"), f"{key}.name", Rule(choices=table))
    thing, skip = metric_options(table()[name]) if of_metric else (table()[name], ())
    given = {k: x for k, x in value.items() if k != "name"}
    return {"name": name, **bind(thing, given, key, skip, ("name",))}


def _required(value: Mapping[str, Any], key: str, name: str) -> Any:
    if name not in value:
        raise ConfigError(f"{key}.{name} is missing; {key} is {shown(value)}.")
    return value[name]


def optimizer_options(name: Any, key: str) -> Any:
    """What describes an optimizer's options: a dataclass, or the function of an extension.

    Raises:
      ConfigError: there is no such optimizer.
    """
    if known := options.OPTIMIZERS.get(name) or OPTIMIZERS.registered().get(name):
        return known
    raise _unknown(name, key, {**options.OPTIMIZERS, **OPTIMIZERS.registered()})


def check_sampler(value: str, key: str) -> str:
    """A way of decoding, such as `greedy`, `nucleus(0.9)` or `beam(4)`.

    Raises:
      ConfigError: an unknown name, or arguments that do not fit.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", value, re.DOTALL)
    name = match[1] if match else value
    known = options.SAMPLERS.get(name) or SAMPLERS.registered().get(name)
    if not known:
        raise _unknown(value, key, {**options.SAMPLERS, **SAMPLERS.registered()})
    fields = entries(known)
    given = [x for x in (match[2] or "").split(",") if x.strip()] if match else []
    if fields is None:
        return value
    usage = f"{name}({', '.join(fields)})" if fields else name
    if len(given) > len(fields):
        raise wrong(key, value, usage)
    arguments = {}
    for text, field in zip(given, fields.values(), strict=False):
        try:
            number = float(text)
        except ValueError:
            raise wrong(key, value, f"{usage} with numbers") from None
        whole = field.kind is int and number.is_integer()
        arguments[field.name] = int(number) if whole else number
    bind(known, arguments, f"{key} {value!r}: {name}")
    return value


def evaluation_section(kind: Any, key: str, default: type) -> type:
    """The dataclass of the keys that a kind of evaluation takes: its own, or the default.

    Raises:
      ConfigError: there is no such kind.
    """
    if kind in KINDS_OF_EVALUATION:
        return default
    if isinstance(kind, str) and (found := EVALUATORS.registered().get(kind)):
        return found.section
    raise _unknown(kind, key, dict.fromkeys((*KINDS_OF_EVALUATION, *EVALUATORS.registered())))


def _unknown(name: Any, key: str, known: Any) -> ConfigError:
    try:
        parse_value(str, name, key, Rule(choices=tuple(known)))
    except ConfigError as e:
        return e
    raise AssertionError(name)


def check_pipeline(value: str, key: str) -> str:
    """A pipeline of ops; it is parsed, and no example passes through it.

    Raises:
      ConfigError: it cannot be parsed, or names an unknown op or arguments that the op lacks.
    """
    parse_pipeline(value, key)
    return value


def parse_pipeline(value: str, key: str) -> tuple[Any, ...]:
    """Returns the ops of a pipeline with their arguments, see `pgjax.data.pipeline.Step`.

    Raises:
      ConfigError: as `check_pipeline`.
    """
    try:
        return _pipeline().parse_ops(value)
    except UserError as e:
        raise ConfigError(f"{key}: {str(e).rstrip('.')}.") from None


def check_makes(value: str, key: str, what: str, makers: tuple[str, ...]) -> None:
    """Checks that a pipeline of pgjax's own ops has one of those that make an image, or text.

    Raises:
      ConfigError: it has none of them, and no op of an extension, which might do the same.
    """
    functions = [step.function for step in parse_pipeline(value, key)]
    own = {OPS[name] for name in makers}
    if not any(f in own or not f.__module__.startswith("pgjax.") for f in functions):
        raise wrong(key, value, f"a pipeline that makes {what}, by one of the ops {makers}")


def _pipeline() -> Any:
    return importlib.import_module("pgjax.data.pipeline")


def check_sizes(tower: str) -> Callable[[Mapping[str, Any], str], dict[str, Any]]:
    """The check of a tower's sizes: `{variant: …}`, with sizes beside or instead of it.

    Args:
      tower: img or llm.
    """

    def check(value: Mapping[str, Any], key: str) -> dict[str, Any]:
        section, variants, build = tower_sizes(tower)
        name = value.get("variant")
        if name is not None:
            parse_value(str, name, f"{key}.variant", Rule(choices=tuple(variants)))
        given = {k: x for k, x in value.items() if x is not None and k != "variant"}
        fields = entries(section) or {}
        missing = [k for k, f in fields.items() if f.required and k not in given]
        if name is None and missing:
            raise ConfigError(
                f"{key}.variant is missing, and so is {key}.{missing[0]}; expected a variant, or "
                "every size."
            )
        base = {} if name is None else dataclasses.asdict(variants[name])
        bound = bind(section, base | given, key, beside=("variant",))
        result = {**value, **{k: bound[k] for k in given}}
        try:
            build(result)
        except UserError as e:
            raise ConfigError(f"config.{e}") from None
        return result

    return check


def tower_sizes(tower: str) -> tuple[type, Mapping[str, Any], Callable[[Any], Any]]:
    """The dataclass of a tower's sizes, its variants by name, and what builds the sizes.

    Args:
      tower: img or llm.
    """
    module = importlib.import_module("pgjax.models.variants")
    if tower == "img":
        return module.SiglipConfig, IMAGE_VARIANTS, module.siglip_config
    return module.GemmaConfig, DECODER_VARIANTS, module.gemma_config
