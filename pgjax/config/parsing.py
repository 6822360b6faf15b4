"""A config as `RunConfig`: parsed, with the checks that involve more than one key."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pgjax.config import named
from pgjax.config.sections import EvalConfig, RunConfig
from pgjax.errors import ConfigError
from pgjax.registry import import_extensions
from pgjax.schema import UnknownKey, dotted, entries, is_section, parse, parse_value, wrong

_IMAGE_OPS, _TEXT_OPS = ("decode", "video"), ("for_answering", "tok")


def parse_config(given: Any, where: str = "config") -> RunConfig:
    """A config as dataclasses; keys that are not given have their defaults.

    Extensions that `imports` names are imported; nothing else is read, and nothing compiled.

    Args:
      given: a ConfigDict or a dict, or a `RunConfig`, which is returned as it is.
      where: what the keys in messages begin with.

    Raises:
      ConfigError: an unknown key, a value of another type or out of range, or values that
        exclude each other; one sentence with the dotted key.
      UserError: a module of `imports` that cannot be imported.
    """
    if isinstance(given, RunConfig):
        return given
    if hasattr(given, "to_dict"):
        given = given.to_dict()
    if isinstance(given, Mapping) and "imports" in given:
        entry = (entries(RunConfig) or {})["imports"]
        import_extensions(parse_value(entry.kind, given["imports"], f"{where}.imports", entry.rule))
    try:
        config = parse(RunConfig, given, where)
    except UnknownKey as e:
        raise e if e.found else _in_another_section(e, where) or e from None
    _check_together(config, where)
    return config


def parse_evaluation(name: str, given: Any, key: str = "config.evals") -> EvalConfig:
    """One entry of `config.evals`.

    Raises:
      ConfigError: as `parse_config`.
    """
    key = dotted(key, name)
    if isinstance(given, EvalConfig):
        return given
    if not re.fullmatch(r"\w[\w .+=-]*", name):
        raise ConfigError(
            f"{key} cannot be the name of an evaluation, which names files; expected letters, "
            "digits, '_', '-' and '.'."
        )
    if not isinstance(given, Mapping):
        raise wrong(key, given, "a section with kind, data and pp")
    if "kind" not in given:
        raise ConfigError(
            f"{key}.kind is missing; expected one of {', '.join(named.KINDS_OF_EVALUATION)}."
        )
    return parse(named.evaluation_section(given["kind"], f"{key}.kind", EvalConfig), given, key)


def check_training(config: RunConfig) -> None:
    """Checks what only a run that trains needs; batches that devices split are checked later.

    Raises:
      ConfigError: no length or two, no data or two, or a batch that does not split.
    """
    if bool(config.total_steps) == bool(config.total_epochs):
        raise ConfigError(
            f"config.total_steps is {config.total_steps} and config.total_epochs is "
            f"{config.total_epochs}; expected exactly one of them above 0."
        )
    spec = config.input
    if bool(spec.data) == bool(spec.mixture):
        both = "are both given" if spec.data else "are both empty"
        raise ConfigError(
            f"config.input.data and config.input.mixture {both}; expected exactly one of them."
        )
    if not spec.pp and not all(entry.pp for entry in spec.mixture.values() or [spec]):
        raise ConfigError("config.input.pp is ''; expected a pipeline that prepares an example.")
    if spec.batch_size % config.grad_accum_steps:
        raise ConfigError(
            f"config.input.batch_size is {spec.batch_size}; expected a multiple of "
            f"config.grad_accum_steps, which is {config.grad_accum_steps}."
        )
    if config.reward.given:
        _check_reward(config)


def _check_reward(config: RunConfig) -> None:
    for key, value in (
        ("answering.objects", config.answering.objects),
        ("label_smoothing", config.label_smoothing),
    ):
        if value:
            raise ConfigError(f"config.{key} is {value}; expected 0 with config.reward.metric.")


def _check_together(config: RunConfig, where: str) -> None:
    if name := config.sample_sheet:
        having = [n for n, spec in config.evals.items() if spec.kind == "answers"]
        if name not in having:
            raise wrong(
                f"{where}.sample_sheet", name, f"the name of an evaluation of answers, of {having}"
            )
    _check_answering(config, where)
    _check_tracked(config, where)
    schedule, total = config.schedule, config.total_steps
    if schedule.warmup_steps + schedule.cooldown_steps > total > 0:
        raise ConfigError(
            f"{where}.schedule.warmup_steps {schedule.warmup_steps} and cooldown_steps "
            f"{schedule.cooldown_steps} do not fit into total_steps {total}."
        )
    patch = named.tower_sizes("img")[2](config.model.img).patch_size
    if any(config.model.res % size for size in patch):
        raise wrong(
            f"{where}.model.res", config.model.res, f"a multiple of the patch size {patch[0]}"
        )
    if config.mesh.data == config.mesh.model == -1:
        raise ConfigError(f"{where}.mesh.data and mesh.model are both -1; expected at most one.")


def split_score(text: str) -> tuple[str, str, str]:
    """Returns (`EVALUATION/SCORE`, the evaluation's name, `max`, `min` or "") of a score's text."""
    key, colon, direction = text.rpartition(":")
    if not colon or direction not in ("max", "min"):
        key, direction = text, ""
    return key, key.partition("/")[0], direction


def _check_tracked(config: RunConfig, where: str) -> None:
    """A score by which a run is judged belongs to an evaluation that runs while it trains."""
    stopping = config.early_stopping
    for name, text in (("keep_best", config.keep_best), ("early_stopping.metric", stopping.metric)):
        if not text:
            continue
        key, evaluation, _ = split_score(text)
        if evaluation not in config.evals or not key.partition("/")[2]:
            raise wrong(
                f"{where}.{name}", text, f"EVALUATION/SCORE, of the evaluations {[*config.evals]}"
            )
        if not config.evals[evaluation].every:
            raise ConfigError(
                f"{where}.{name} is {text!r}, but {where}.evals.{evaluation}.every is 0, so that "
                "it runs only at the end; expected a number of steps."
            )
    if stopping.patience and not (stopping.metric or config.keep_best):
        raise ConfigError(
            f"{where}.early_stopping.patience is {stopping.patience}, but no score is given; "
            f"expected one in {where}.early_stopping.metric or {where}.keep_best."
        )


def _check_answering(config: RunConfig, where: str) -> None:
    """A run is prompted with an image and text, or not at all."""
    spec, key = config.answering, f"{where}.answering"
    if bool(spec.image) != bool(spec.text):
        missing = "text" if spec.image else "image"
        raise ConfigError(
            f"{key}.{missing} is ''; expected a pipeline, because the other of {key}.image and "
            f"{key}.text is given."
        )
    if spec.image:
        named.check_makes(spec.image, f"{key}.image", "an image", _IMAGE_OPS)
        named.check_makes(spec.text, f"{key}.text", "tokens", _TEXT_OPS)


def keys(section: type = RunConfig, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all fields, those of nested sections included."""
    for name, entry in (entries(section) or {}).items():
        if is_section(entry.kind):
            yield from keys(entry.kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _in_another_section(error: UnknownKey, where: str) -> UnknownKey | None:
    """The same error with a key of the same name, or one like it, in another section."""
    known = list(keys())
    key = f"{error.section}.{error.name}".removeprefix(f"{where}.")
    section = key.rpartition(".")[0]
    if section and not any(k.startswith(f"{section}.") for k in known):
        return None  # keys of something that a config names, such as an optimizer's options
    found = [k for k in known if k.rpartition(".")[2] == error.name]
    found = found or difflib.get_close_matches(key, known, 1)
    return UnknownKey(error.section, error.name, [], f"{where}.{found[0]}") if found else None
