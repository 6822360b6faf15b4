"""The files that tools read: versions agree, and the checks are listed once."""

import re

import pytest
import yaml
from conftest import ROOT

import pgjax

SETUP = (ROOT / "setup.py").read_text()


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == pgjax.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == pgjax.__version__


@pytest.fixture
def job():
    """The one job of the workflow."""
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    return job


def test_the_workflow_runs_the_one_list_of_checks(job):
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    run = (ROOT / ".ci/run").read_text()
    for check in ("ruff check", "ruff format --check", "basedpyright", "mkdocs build", "pytest"):
        assert check in run
    (step,) = (step for step in job["steps"] if "run" in step)
    assert all(f"${{{name}:" in run for name in step["env"])


def test_the_workflow_has_the_oldest_and_the_newest_versions(job):
    oldest, newest = job["strategy"]["matrix"]["include"]
    least, below = re.search(r'JAX = "jax>=([\d.]+),<([\d.]+)"', SETUP).groups()
    assert oldest["jax"] == least
    assert next_minor(newest["jax"]) == below
    least, below = re.search(r'python_requires=">=([\d.]+),<([\d.]+)"', SETUP).groups()
    assert (oldest["python"], next_minor(newest["python"])) == (least, below)


def next_minor(version):
    major, minor = version.split(".")[:2]
    return f"{major}.{int(minor) + 1}"
