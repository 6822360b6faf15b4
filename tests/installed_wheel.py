"""Fixtures: pgjax as its wheel has it, installed away from the clone, and run in an empty folder.

Packages that it depends on are those of the Python that runs the tests.
"""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


def pip(*args):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, args)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, made from a copy of the clone's files."""
    clone, wheels = (tmp_path_factory.mktemp(name) for name in ("clone", "wheels"))
    for name in ("setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for name in ("pgjax", "configs", "transfers"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", clone)
    (wheel,) = wheels.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with pgjax alone, as its wheel has it."""
    site = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", f"--target={site}", wheel)
    return site


@pytest.fixture(scope="module")
def wheel_environment(installed, compilation_cache):
    return {
        **os.environ,
        "PYTHONPATH": str(installed),
        "PATH": f"{installed / 'bin'}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
    }


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def installed_program(installed, wheel_environment, empty_folder):
    """Runs `pgjax …` in the folder, which is empty at first."""

    def run(*args, status=0, timeout=600):
        done = subprocess.run(
            [installed / "bin" / "pgjax", *map(str, args)],
            cwd=empty_folder, env=wheel_environment, timeout=timeout,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, f"{args}:\n{done.stdout}\n{done.stderr}"
        return done

    return run
