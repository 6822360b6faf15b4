"""Shared set-up: CPU, strict numerics, and a compilation cache for the whole test session."""

import os
import pathlib
import subprocess
import sys

import pytest
import shape_checks

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test leaves this machine

shape_checks.install()

pytest_plugins = ["installed_wheel", "durations", "headless_browser"]  # their fixtures

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
PHOTOS = TESTS / "photos"


@pytest.fixture(scope="session", autouse=True)
def strict_numerics(compilation_cache):
    """No implicit dtype or rank promotion, and full float32 products."""
    import jax

    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(compilation_cache))


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "xla"
    folder.mkdir(exist_ok=True)  # the workers of pytest-xdist share one
    return folder


@pytest.fixture(scope="session")
def command(compilation_cache):
    """Runs `python -m pgjax.X …` in a process of its own, as a user would."""

    def run(*args, devices=1, check=True, timeout=240, **kwargs):
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": str(ROOT),
            **kwargs.pop("env", {}),
        }
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout, **kwargs,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{args} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture
def program(capsys):
    """Runs `pgjax COMMAND …` in this process, and returns what it printed."""
    from pgjax.commands.main import main

    def run(*args, status=0):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, args)])
        said = capsys.readouterr()
        assert ended.value.code == status, said.err
        return said

    return run
