"""The notebooks' first cell: where it finds pgjax, and what it asks of pip, which is replaced."""

import json
import pathlib
import shutil
import subprocess
import types

import numpy as np
import pytest
from conftest import ROOT

CELL = (ROOT / "tools/notebook_cells/install.py").read_text().rstrip()


@pytest.fixture
def install(monkeypatch):
    """Runs the cell; yields what pip was asked for, and the versions that it had to keep."""

    def run(folder, *statuses, importable=False):
        asked = []
        answers = iter(statuses)

        def start(args, **_):
            status = 0 if importable else 1
            if "pip" in args:
                kept = pathlib.Path(args[args.index("-c") + 1]).read_text() if "-c" in args else ""
                asked.append((args, set(kept.split())))
                status = next(answers)
            return types.SimpleNamespace(returncode=status, stdout="", stderr="why pip gave up")

        monkeypatch.setattr(subprocess, "run", start)
        monkeypatch.chdir(folder)
        exec(compile(CELL, "cell", "exec"), {})
        return asked

    return run


@pytest.fixture
def clone(tmp_path):
    for name in ("setup.py", "pgjax/__init__.py"):
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


def source(asked):
    (requirement,) = (x for x in asked[0][0] if x.startswith("paligemma-jax["))
    return requirement.partition(" @ ")[2]


@pytest.mark.parametrize("path", sorted((ROOT / "colabs").glob("*.ipynb")), ids=lambda x: x.stem)
def test_every_notebook_begins_with_it(path):
    cells = [x for x in json.loads(path.read_text())["cells"] if x["cell_type"] == "code"]
    assert "".join(cells[0]["source"]) == CELL


def test_nothing_happens_where_it_is_installed(install, tmp_path):
    assert not install(tmp_path, importable=True)


@pytest.mark.parametrize("place", [".", "colabs", ".."])
def test_a_clone(install, clone, place):
    """The notebook lies in it, in its folder `colabs`, or beside it as Colab's user cloned it."""
    (clone / "colabs").mkdir()
    clone = clone.rename(clone.with_name("pgjax"))
    assert source(install(clone / place, 0)) == clone.as_uri()


def test_a_wheel(install, tmp_path):
    (tmp_path / "notebooks").mkdir()
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / f"paligemma_jax-{version}-py3-none-any.whl").touch()
    newest = tmp_path / "paligemma_jax-0.2.0-py3-none-any.whl"
    assert source(install(tmp_path / "notebooks", 0)) == newest.as_uri()


def test_what_is_loaded_keeps_its_version(install, tmp_path):
    ((_, kept),) = install(tmp_path, 0)
    assert f"numpy=={np.__version__}" in kept
    assert not {x for x in kept if x.startswith(("mkdocs==", "ruff=="))}  # which are not loaded


def test_newer_packages_need_a_restart(install, tmp_path):
    with pytest.raises(RuntimeError, match=r"Restart session, then run all cells again\.$"):
        install(tmp_path, 1, 0)


def test_no_pgjax_anywhere(install, tmp_path):
    with pytest.raises(RuntimeError, match=r"Put its wheel[\s\S]*why pip gave up$"):
        install(tmp_path, 1, 1)
