"""`pgjax list`."""

import dataclasses
import difflib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from pgjax.commands.command import Command
from pgjax.errors import UsageError
from pgjax.registry import Metric

# What can be listed: registries of pgjax.registry, and lists that have a function below.
REGISTRIES = {
    "ops": "OPS",
    "metrics": "METRICS",
    "sources": "SOURCES",
    "evaluators": "EVALUATORS",
    "samplers": "SAMPLERS",
    "optimizers": "OPTIMIZERS",
    "checkpoint-formats": "CHECKPOINT_FORMATS",
    "image-variants": "IMAGE_VARIANTS",
    "decoder-variants": "DECODER_VARIANTS",
}


class List(Command):
    """Lists what has a name: configs, checkpoints, benchmarks, metrics, ops, samplers, ….

    WHAT is one of configs, checkpoints, benchmarks, ops, metrics, sources, evaluators, samplers,
    optimizers, checkpoint-formats, image-variants and decoder-variants. The last nine are what a
    config can name; the modules in its `imports` add to them, as those in --imports do here.
    """

    name = "list"
    arguments = "WHAT"
    example = "pgjax list configs"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._imports = self.items("imports", "Your own modules to import first, as in a config.")

    def run(self) -> None:
        """Prints one list."""
        what = self.positional[0].replace("_", "-")
        own = {"configs": _configs, "checkpoints": _checkpoints, "benchmarks": _benchmarks}
        if what in own:
            print("\n".join(own[what]()))
        elif what in REGISTRIES:
            from pgjax.registry import import_extensions

            import_extensions(self._imports.value)
            print("\n".join(_registry(REGISTRIES[what])))
        else:
            known = [*own, *REGISTRIES]
            near = difflib.get_close_matches(what, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}."
            raise UsageError(f"pgjax list {what!r} is not a known list; {hint}")


def _columns(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max((len(name) for name, _ in rows), default=0)
    for name, about in rows:
        yield f"{name:{width}}  {about}".rstrip()


def _configs() -> Iterator[str]:
    from pgjax.commands.config_files import about_config, packaged_configs

    return _columns([(name, about_config(file)) for name, file in packaged_configs().items()])


def _checkpoints() -> Iterator[str]:
    from pgjax.checkpoints.released import describe

    yield describe()


def _benchmarks() -> Iterator[str]:
    from pgjax.benchmarks.readers import READERS

    return _columns([(name, reader.about) for name, reader in READERS.items()])


def _registry(name: str) -> Iterator[str]:
    """The entries of a registry; ops with the arguments that a pipeline's text may set."""
    from pgjax import registry

    if name == "OPS":
        from pgjax.data.pipeline import describe_ops

        yield describe_ops()
        return
    entries = getattr(registry, name)
    yield from _columns([(key, _about(value)) for key, value in entries.items()])


def _about(value: Any) -> str:
    value = value.function if isinstance(value, Metric) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ", ".join(f"{key}={x}" for key, x in vars(value).items())
    return (inspect.getdoc(value) or "").partition("\n")[0]
