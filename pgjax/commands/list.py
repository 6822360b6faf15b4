"""`pgjax list`."""

import difflib
import inspect
from collections.abc import Iterator

from pgjax.commands.command import Command
from pgjax.errors import UsageError

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
    config can name; modules in config.imports add to them.
    """

    name = "list"
    arguments = "WHAT"
    example = "pgjax list configs"

    def run(self) -> None:
        """Prints one list."""
        what = self.positional[0].replace("_", "-")
        own = {"configs": _configs, "checkpoints": _checkpoints, "benchmarks": _benchmarks}
        if what in own:
            print("\n".join(own[what]()))
        elif what in REGISTRIES:
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
    from pgjax import registry

    entries = getattr(registry, name)
    return _columns([(name, _first_line(value)) for name, value in entries.items()])


def _first_line(value: object) -> str:
    if not (inspect.isroutine(value) or inspect.isclass(value)):
        return ""
    return (inspect.getdoc(value) or "").partition("\n")[0]
