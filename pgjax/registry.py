"""Extension points: what a config can name, and how a package of one's own adds to it.

Each kind of thing that a config names has one `Registry` here. The module that defines a thing
registers it there:

    from pgjax.registry import METRICS, OPS

    @OPS.register("grayscale")
    def grayscale(example, key="image"): ...

    @METRICS.register("my_score", main="acc")
    def my_score(prediction, meta): ...

pgjax's own modules do the same; a registry imports them when it is first asked. A user's modules
are named by `config.imports = ("my_package.metrics",)` and imported by `import_extensions`. The key
is stored with the run, so opening a run directory runs the code of the modules that it names.
"""

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pgjax.errors import UserError

T = TypeVar("T")
V = TypeVar("V")


class Registry(Mapping[str, V], Generic[V]):
    """Things of one kind by name, in the order in which they were registered."""

    def __init__(self, what: str, home: Sequence[str]) -> None:
        """Makes an empty registry.

        Args:
          what: the kind, for messages, such as `metric`.
          home: modules of pgjax that register its own; imported at the first look-up.
        """
        self.what = what
        self._home = tuple(home)
        self._entries: dict[str, V] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that adds a function, a class or a value under a name.

        Raises:
          UserError: the name belongs to something else; raised by the decorator.
        """

        def add(value: Any) -> Any:
            self._add(name, value)
            return value

        return add

    def find(self, name: Any, where: str) -> V:
        """Returns what is registered under a name.

        Args:
          name: the name, as a config gives it.
          where: where it was given, such as `config.optimizer.name`, for the message.

        Raises:
          UserError: nothing has that name; the message gives the nearest name, or all of them.
        """
        near = []
        if isinstance(name, str):
            if name in self:
                return self[name]
            near = difflib.get_close_matches(name, list(self), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(self)}."
        raise UserError(f"{where}: {name!r} is not a known {self.what}; {hint}")

    def registered(self) -> dict[str, V]:
        """Returns what has been registered so far, without importing pgjax's own modules."""
        return dict(self._entries)

    def __getitem__(self, name: str) -> V:
        return self._filled()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def _add(self, name: str, value: V) -> None:
        before = self._entries.setdefault(name, value)
        if before != value and _place(before) != _place(value):
            raise UserError(
                f"The {self.what} {name!r} is registered by {_place(before)} and by "
                f"{_place(value)}; one of them needs another name."
            )
        self._entries[name] = value

    def _filled(self) -> dict[str, V]:
        for module in self._home:
            importlib.import_module(module)
        self._home = ()
        return self._entries


def _place(value: Any) -> str:
    """Names the definition of a value: `module.name`, or its repr where it has no name."""
    value = value.function if isinstance(value, Metric) else value
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)


METRIC_NEEDS = ("draw",)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric with its declaration, whose parts `MetricRegistry.register` describes."""

    function: Callable[..., dict[str, float]]
    main: str
    lower_is_better: bool
    corpus: bool
    needs: tuple[str, ...]


class MetricRegistry(Registry[Metric]):
    """Metrics by name, each with its declaration."""

    def register(
        self,
        name: str,
        *,
        main: str = "",
        lower_is_better: bool = False,
        corpus: bool = False,
        needs: Sequence[str] = (),
    ) -> Callable[[T], T]:
        """Returns a decorator that adds a metric, see `pgjax.metrics` for its two forms.

        Args:
          name: what a config calls it.
          main: the key of the score by which examples are ranked and two runs are compared, among
            those that single examples have; it must be given.
          lower_is_better: whether a lower main score is the better one.
          corpus: whether the metric takes all records at once.
          needs: keyword arguments that the evaluator supplies. There is `draw`, the function of
            type `pgjax.metrics.segmentation.DrawMask` that turns the codes of a mask into pixels.

        Raises:
          UserError: no main score, an unknown need, or the name belongs to something else.
        """
        if not main:
            raise UserError(f"The metric {name!r} states no main score, expected main=KEY.")
        if unknown := [need for need in needs if need not in METRIC_NEEDS]:
            raise UserError(
                f"The metric {name!r} needs {unknown}, expected some of {list(METRIC_NEEDS)}."
            )

        def add(function: Any) -> Any:
            metric = Metric(function, main, lower_is_better, corpus, tuple(needs))
            self._add(name, metric)
            return function

        return add


def _modules(package: str, *names: str) -> list[str]:
    return [f"pgjax.{package}.{name}" for name in names]


OPS: Registry[Callable[..., dict[str, Any]]] = Registry(
    "op",
    _modules(
        "data", "ops_image", "ops_video", "ops_text", "ops_detection", "ops_choices", "ops_general"
    ),
)
METRICS = MetricRegistry(
    "metric",
    _modules(
        "metrics", "anls", "boxes", "by_task", "by_type", "captions", "choices", "counting",
        "detection", "exact_match", "long_captions", "music", "relaxed", "reports", "segmentation",
        "smiles", "spotting", "tables", "vqa",
    ),
)  # fmt: skip
SOURCES: Registry[Callable[..., Any]] = Registry(
    "data source",
    _modules(
        "data", "jsonl", "arrow_source", "webdataset_source", "memory_source", "tfds_source",
        "prepared_source", "scenes",
    ),
)  # fmt: skip
EVALUATORS: Registry[type] = Registry("kind of evaluation", _modules("evaluation", "evaluators"))
SAMPLERS: Registry[Callable[..., Any]] = Registry("sampler", _modules("decoding", "decoders"))
OPTIMIZERS: Registry[Callable[..., Any]] = Registry("optimizer", _modules("training", "optimizer"))
CHECKPOINT_FORMATS: Registry[type] = Registry(
    "checkpoint format", _modules("checkpoints", "formats")
)
IMAGE_VARIANTS: Registry[Any] = Registry(
    "variant of the image tower", _modules("models", "variants")
)
DECODER_VARIANTS: Registry[Any] = Registry("variant of the decoder", _modules("models", "variants"))

_IMPORTED: list[str] = []


def import_extensions(modules: Sequence[str]) -> None:
    """Imports the modules that `config.imports` names, which register what they define.

    Raises:
      UserError: a module is not found, or fails while it is imported.
    """
    if isinstance(modules, str):
        raise UserError(
            f"config.imports is the text {modules!r}, expected a tuple of modules: ({modules!r},)."
        )
    for name in modules:
        try:
            importlib.import_module(name)
        except UserError:
            raise
        except Exception as e:
            message = " ".join(str(e).split()) or type(e).__name__
            raise UserError(
                f"config.imports: the module {name!r} cannot be imported ({message}); expected a "
                "module that Python finds: install its package, or add its folder to PYTHONPATH."
            ) from e
        if name not in _IMPORTED:
            _IMPORTED.append(name)


def imported_extensions() -> tuple[str, ...]:
    """The modules that `import_extensions` has imported, for processes that this one starts."""
    return tuple(_IMPORTED)
