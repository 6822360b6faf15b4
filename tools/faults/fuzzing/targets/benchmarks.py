"""Official files of benchmarks, as `pgjax prepare` reads them."""

import functools
import importlib.util
import json
import math
import pathlib
import random
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from pgjax.benchmarks.preparation import prepare
from pgjax.benchmarks.readers import READERS
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import Damage, read_folder, write_folder

_FIXTURES = pathlib.Path(__file__).parents[4] / "tests" / "benchmarks"
_OPTIONS = {"frames": 2, "stride": 3, "tiny": True}
_PIXELS = (".jpg", ".jpeg", ".png", ".tif", ".mp4", ".mkv", ".webm", ".avi")


@functools.cache
def _fixture(name: str) -> dict[str, bytes]:
    if str(_FIXTURES) not in sys.path:
        sys.path.append(str(_FIXTURES))
    spec = importlib.util.spec_from_file_location(name, _FIXTURES / f"make_{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "source")
        module.make(path)
        return read_folder(path)


def _inputs(rng: random.Random, count: int) -> Iterable[tuple[str, str, dict[str, bytes]]]:
    damage, names = Damage(rng), sorted(READERS)
    few = rng.sample(names, min(len(names), 8))  # in each batch, as fixtures take time to make
    for _ in range(count):
        name = rng.choice(few)
        files = _fixture(name)
        notes = {n: d for n, d in files.items() if not n.lower().endswith(_PIXELS)}
        chosen = notes if notes and rng.random() < 0.85 else files
        split = rng.choice(list(READERS[name].splits))
        yield name, split, {**files, **damage.folder(chosen)}


def check(given: tuple[str, str, dict[str, bytes]], folder: pathlib.Path) -> None:
    """What is written has the features that the reader states, and images that exist."""
    name, split, files = given
    write_folder(folder / "source", files)
    reader = READERS[name]
    options = {key: _OPTIONS.get(key, value) for key, value in reader.options.items()}
    report = prepare(
        name, folder / "source", folder / "out", format="jsonl", splits=[split],
        check_counts=False, **options,
    )  # fmt: skip
    path = pathlib.Path(report["path"])
    lines = (path / f"{split}.jsonl").read_text("utf-8").split("\n")[:-1]
    if len(lines) != report["splits"][split]["examples"]:
        raise Wrong(f"{len(lines)} lines, the report says {report['splits']}")
    keys = set()
    for line in lines:
        example = json.loads(line, parse_constant=_refuse)
        keys.add(example[reader.key])
        for key, feature in reader.features.items():
            _fits(example[key], feature, key, path)
    if len(keys) != len(lines):
        raise Wrong("two examples have one id")


def _refuse(text: str) -> Any:
    raise Wrong(f"a number is {text}")


def _fits(value: Any, feature: Any, key: str, path: pathlib.Path) -> None:
    if isinstance(feature, list):
        for one in value:
            _fits(one, feature[0], key, path)
        good = isinstance(value, list)
    elif feature == "image":
        good = (path / value).is_file()
    elif feature == "box":
        good = len(value) == 4 and all(math.isfinite(v) for v in value)
    elif feature in (str, int, bool):
        good = type(value) is feature
    else:
        good = feature is not float or type(value) in (int, float)
    if not good:
        raise Wrong(f"{key} is {value!r:.200}")


TARGETS = [Target("benchmarks", _inputs, check, 30)]
