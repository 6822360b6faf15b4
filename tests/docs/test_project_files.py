"""The files that tools read: versions and addresses agree, and the checks are listed once."""

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


def test_one_address():
    """The same wherever it is named: badges, the install cell, the citation."""
    owner_and_name = pgjax.REPOSITORY.removeprefix("https://github.com/")
    named = {
        path: set(re.findall(r"github(?:\.com)?/([\w-]+/pgjax)\b", path.read_text()))
        for pattern in ("*.md", "*.yml", "*.cff", "colabs/*", "docs/**/*.md", "pgjax/**/*.py",
                        "tools/**/*.py")
        for path in ROOT.glob(pattern)
    }  # fmt: skip
    assert set().union(*named.values()) == {owner_and_name}
    for name in ("CITATION.cff", "tools/notebook_cells/install.py"):
        assert named[ROOT / name], name


def test_extras_of_messages_exist():
    """Messages and pages name the distribution, not the package that it brings."""
    extras = set(re.findall(r'^        "(\w+)": \[', SETUP, re.MULTILINE))
    (distribution,) = re.findall(r'name="([\w-]+)"', SETUP)
    for pattern in ("*.md", "docs/**/*.md", "pgjax/**/*.py"):
        for path in ROOT.glob(pattern):
            for name, wanted in re.findall(r"pip install '([\w-]+)\[([\w,]+)\]", path.read_text()):
                assert name == distribution and set(wanted.split(",")) <= extras, path


@pytest.fixture
def jobs():
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]


@pytest.fixture
def job(jobs):
    return jobs["check"]


def test_the_lowest_versions_are_tested(jobs):
    """With every extra that users install, beside those of a device and of the demo."""
    commands = [step["run"] for step in jobs["lower-bounds"]["steps"] if "run" in step]
    assert commands == [".ci/lower_bounds"]
    extras = set(re.findall(r"--extra (\w+)", (ROOT / ".ci/lower_bounds").read_text()))
    assert extras == {"kaggle", "metrics", "notebook", "prepare", "serve", "video"}


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
