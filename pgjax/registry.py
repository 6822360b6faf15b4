"""Extension points: what a config can name, and how a package of one's own adds to it.

Each kind of thing that a config names has one `Registry` here. A module that defines such a thing
registers it where it stands:

    from pgjax.registry import METRICS

    @METRICS.register("my_score")
    def my_score(prediction, meta): ...

pgjax's own modules do the same; a registry imports them when it is first asked. Modules of the
user's are named by `config.imports = ("my_package.metrics",)` and imported by `import_extensions`,
which runs their code.
"""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pgjax.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, Any]):
    """Things of one kind by name, in the order in which they were registered."""

    def __init__(self, what: str, home: Sequence[str]) -> None:
        """Makes an empty registry.

        Args:
          what: the kind, for messages, such as `metric`.
          home: modules of pgjax that register its own; imported at the first look-up.
        """
        self.what = what
        self._home = tuple(home)
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds a function or class under a name.

        Raises:
          UserError: the name belongs to something else.
        """

        def add(value: T) -> T:
            before = self._entries.setdefault(name, value)
            if before is not value and not _same_place(before, value):
                raise UserError(
                    f"A {self.what} named {name!r} exists already; expected a new name."
                )
            self._entries[name] = value
            return value

        return add

    def find(self, name: Any, where: str) -> Any:
        """What is registered under a name.

        Args:
          name: as a config gives it.
          where: what gave it, such as `config.optimizer.name`, for the message.

        Raises:
          UserError: nothing is; the message says which names are nearest, or which there are.
        """
        if isinstance(name, str) and name in self:
            return self[name]
        near = difflib.get_close_matches(str(name), list(self), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(self)}."
        raise UserError(f"{where}: {name!r} is not a known {self.what}; {hint}")

    def registered(self) -> dict[str, Any]:
        """Returns what has been registered so far, without importing pgjax's own modules."""
        return dict(self._entries)

    def __getitem__(self, name: str) -> Any:
        return self._filled()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def _filled(self) -> dict[str, Any]:
        home, self._home = self._home, ()
        for module in home:
            importlib.import_module(module)
        return self._entries


def _same_place(before: Any, value: Any) -> bool:
    """Whether both are one definition, whose module was imported a second time."""

    def place(x: Any) -> tuple[Any, Any]:
        return getattr(x, "__module__", None), getattr(x, "__qualname__", None)

    return place(before) == place(value) != (None, None)


OPS = Registry("op", ["pgjax.data.ops"])
METRICS = Registry("metric", ["pgjax.metrics"])
SOURCES = Registry("data source", ["pgjax.data.sources"])
EVALUATORS = Registry("kind of evaluation", ["pgjax.evaluation.evaluators"])
SAMPLERS = Registry("sampler", ["pgjax.decoding.decoders"])
OPTIMIZERS = Registry("optimizer", ["pgjax.training.optimizer"])
CHECKPOINT_FORMATS = Registry("checkpoint format", ["pgjax.checkpoints.formats"])
IMAGE_VARIANTS = Registry("variant of the image tower", ["pgjax.models.variants"])
DECODER_VARIANTS = Registry("variant of the decoder", ["pgjax.models.variants"])


def import_extensions(modules: Sequence[str]) -> None:
    """Imports the modules that `config.imports` names, which register what they define.

    Raises:
      UserError: a module that is not found, or that fails while it is imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except UserError:
            raise
        except Exception as e:
            message = " ".join(str(e).split()) or type(e).__name__
            raise UserError(
                f"config.imports: the module {name!r} cannot be imported ({message}); expected a "
                "module on Python's path."
            ) from e
