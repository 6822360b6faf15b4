"""The layers of the design, and what must never enter a process."""

import ast
import collections

import pytest
from conftest import PHOTOS, ROOT

BASE = {"cache", "errors", "registry", "run_lengths", "schema", "trees", "sharding"}
PARTS = {"models", "text", "data", "checkpoints", "decoding", "metrics"}
# Who may import whom inside pgjax; every arrow points down.
ALLOWED = {
    "cache": set(),
    "errors": set(),
    "schema": {"errors"},
    "run_lengths": {"errors"},
    "registry": {"errors"},
    "published": set(),
    "console": set(),
    "trees": {"errors"},
    "sharding": {"errors", "trees"},
    "devices": {"errors"},
    "models": BASE,
    "text": {"errors"},
    "decoding": {"errors", "registry", "sharding"},
    "distributed": {"errors"},
    "checkpoints": BASE | {"published", "text"},  # a folder's tokenizer is checked with it
    "data": {
        "cache",
        "errors",
        "registry",
        "run_lengths",
        "schema",
        "text",
    },  # text ops are made of the text functions
    "metrics": {"errors", "registry", "run_lengths", "text"},  # box strings are parsed in one place
    # What a config names is imported where it is looked up, so that parsing stays fast.
    "config": {"errors", "registry", "schema"},
    "recipes": {"config", "errors", "published"},
    # Training and inference stand on loading, and not on each other.
    "loading": BASE | PARTS - {"decoding", "metrics"} | {"config", "console", "devices"},
    "inference": BASE | PARTS - {"metrics"} | {"config", "console", "devices", "loading"},
    # The suite stands on inference; its adapters import other frameworks, when they are asked for.
    "conformance": BASE | PARTS - {"metrics"} | {"config", "inference", "loading"},
    "access": {"errors"},
    "demo": BASE | PARTS - {"metrics"} | {"access", "benchmarks", "config", "inference", "loading"},
    "serving": BASE | PARTS - {"metrics"} | {"access", "console", "inference", "loading"},
    "evaluation": BASE | PARTS | {"config", "console", "inference", "loading", "published"},
    "training": BASE
    | PARTS
    | {"config", "console", "devices", "distributed", "evaluation", "loading", "recipes"},
    "pictures": {"data", "errors", "evaluation", "inference", "loading", "training"},
    "model_card": {"checkpoints", "config", "console", "errors", "evaluation"}
    | {"loading", "metrics", "training"},
    "notebook": {"checkpoints", "errors"},
    # What `pgjax.finetune` calls: a config by name, training, and `pgjax.load` of the result.
    "finetuning": {"commands", "config", "data", "errors", "inference", "loading", "training"},
    # Published scores are a table that needs nothing; the rest of benchmarks prepares data sets.
    "benchmarks": {"data", "errors", "inference", "run_lengths", "text"},
    # Commands import what does the work.
    "commands": BASE
    | PARTS
    | {"access", "benchmarks", "config", "conformance", "console", "demo", "devices"}
    | {"distributed", "evaluation", "inference", "loading", "model_card", "published"}
    | {"recipes", "serving", "training"},
    # A harness's model: a checkpoint asked by the configs of benchmarks.
    "harnesses": {"checkpoints", "commands", "config", "data", "errors", "inference", "loading"}
    | {"metrics"},
    "train": {"commands"},
    "evaluate": {"commands"},
    "predict": {"commands"},
    "__main__": {"commands"},
}
DOORS = ("evaluate", "predict", "train")
HOST_ONLY = ("text", "metrics")  # numpy, Pillow and plain Python
MODULES = sorted((ROOT / "pgjax").rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path):
    return part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))


def part_of(module):
    """The part of the design that `pgjax.x.y` belongs to."""
    if module.startswith("pgjax.benchmarks.published"):
        return "published"
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = part(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("pgjax."):
            target = part_of(name)
            assert target == own or target in ALLOWED[own], f"{path} imports {name}"


def test_no_two_files_share_a_name():
    """But for the doors of `python -m pgjax.train` and its like, which open the command."""
    paths = collections.defaultdict(set)
    for path in MODULES:
        if path.stem != "__init__":
            paths[path.stem].add(str(path.relative_to(ROOT / "pgjax")))
    doors = {name: {f"{name}.py", f"commands/{name}.py"} for name in DOORS}
    assert {name: found for name, found in paths.items() if len(found) > 1} == doors


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_forbidden_library(path):
    names = {name.split(".")[0] for name in imports(path)}
    assert not names & {"tensorflow", "torch", "java", "tensorflow_text"}
    if part(path) in HOST_ONLY or path.stem.startswith("ops_"):
        assert not names & {"jax", "flax", "optax"}, path
    if part(path) in ("config", "recipes", "registry", "schema"):
        assert not names & {"jax", "numpy"}, path


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "configs").glob("[!_]*.py"), *(ROOT / "transfers").glob("[!_]*.py")]),
    ids=lambda p: p.name,
)  # fmt: skip
def test_configs_import_recipes_only(path):
    assert {name.split(".")[0] for name in imports(path)} == {"pgjax"}
    assert all(name.startswith("pgjax.recipes") for name in imports(path))


FORBIDDEN = "bad = [m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'torch')]"


def test_predict_does_not_import_training(command):
    code = (
        "import sys, pgjax.commands.predict, pgjax.data.sources\n"
        "import pgjax.inference.prediction_records\n"
        f"{FORBIDDEN} + [m for m in sys.modules if m.startswith('pgjax.training')]\n"
        "assert not bad, bad"
    )
    command("-c", code)


@pytest.mark.slow
def test_training_needs_neither_tensorflow_nor_torch(command, tmp_path):
    """Where they are installed, tensorboardX looks for them, and does without."""
    code = (
        "import runpy, sys\n"
        "sys.modules.update(tensorflow=None, torch=None)\n"  # importing them fails
        f"sys.argv = ['train', '--config=transfers/forkme.py:variant=tiny,steps=1',"
        f" '--config.input.data.fname={PHOTOS / 'photos.jsonl'}', '--config.input.batch_size=2',"
        f" '--config.evals.answers.max_new_tokens=4', '--workdir={tmp_path / 'run'}']\n"
        "runpy.run_module('pgjax.train', run_name='__main__')"
    )
    command("-c", code)
    assert (tmp_path / "run" / "checkpoints" / "step_1").is_dir()
