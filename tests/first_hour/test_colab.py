"""A Colab user's first hour: a wheel beside the notebook, its installation, the first answer.

The virtual environment has Colab's versions of packages, older than those that pgjax was written
with, and its kernel has loaded matplotlib and Pillow before the first cell, as Colab's has.
"""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
COLAB = [
    "ipykernel==6.17.1", "ipython==7.34.0", "jupyter-client==7.4.9", "tornado==6.5.1",
    "matplotlib==3.10.0", "numpy==2.0.2" if sys.version_info < (3, 13) else "numpy==2.1.0",
    "pillow==11.3.0", "protobuf==5.29.5", "jax==0.7.2", "jaxlib==0.7.2", "absl-py==1.4.0",
    "fsspec==2025.3.0", "huggingface-hub==0.36.0", "tqdm==4.67.1",
]  # fmt: skip
BEFORE = "%matplotlib inline\nimport PIL.Image, google.protobuf"
AFTER = """
import importlib.metadata, json, PIL, google.protobuf, matplotlib, numpy, tornado, ipykernel
loaded = {"pillow": PIL, "matplotlib": matplotlib, "numpy": numpy, "ipykernel": ipykernel}
loaded |= {"protobuf": google.protobuf}
versions = {name: [x.__version__, importlib.metadata.version(name)] for name, x in loaded.items()}
print(json.dumps(versions | {"tornado": [tornado.version, importlib.metadata.version("tornado")]}))
"""


@pytest.fixture
def environment(tmp_path, compilation_cache):
    """Variables of a process that has nothing of the one that runs the tests."""
    mine = ("PYTHONPATH", "PIP_CONSTRAINT", "VIRTUAL_ENV")
    return {
        **{name: value for name, value in os.environ.items() if name not in mine},
        "JUPYTER_PATH": str(tmp_path / "venv/share/jupyter"),
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
    }


@pytest.fixture
def colab(tmp_path, environment):
    """Colab's Python, whose kernel `colab` is found by `environment`."""
    python = tmp_path / "venv/bin/python"

    def run(*args):
        return subprocess.run(args, env=environment, capture_output=True, text=True, timeout=600)

    reach = ("--dry-run", "--no-deps", "--ignore-installed", "--no-cache-dir", "--retries=1")
    if run(sys.executable, "-m", "pip", "install", *reach, "pip").returncode:
        pytest.skip("pip reaches no package index, from which Colab's packages could be installed")
    run(sys.executable, "-m", "venv", python.parent.parent)
    for args in (
        ("pip", "install", "--quiet", *COLAB),
        ("ipykernel", "install", f"--prefix={python.parent.parent}", "--name=colab"),
    ):
        done = run(python, "-m", *args)
        assert done.returncode == 0, done.stderr
    return python


def cells():
    """Those of a notebook, up to the first answer of the model."""
    notebook = json.loads((ROOT / "colabs/inference.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])
            if ".generate(" in "".join(cell["source"]):
                return


def test_colab(steps, wheel, colab, environment, tmp_path, monkeypatch):
    content = tmp_path / "content"
    content.mkdir()
    shutil.copy(wheel, content)
    monkeypatch.setenv("JUPYTER_PATH", environment["JUPYTER_PATH"])
    sources = [BEFORE, *cells(), AFTER]
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, sources)])
    client = NotebookClient(
        notebook, timeout=900, kernel_name="colab", resources={"metadata": {"path": str(content)}}
    )
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(notebook.cells):
            with steps(cell.source.partition("\n")[0] or "versions"):
                client.execute_cell(cell, index)  # raises where the cell fails or the kernel dies
    texts = ["".join(x.get("text", "") for x in cell.outputs) for cell in notebook.cells]
    assert any(f"{wheel.name}, which takes some minutes" in text for text in texts)
    assert any("image/jpeg" in x.get("data", {}) for x in notebook.cells[-2].outputs)
    wanted = dict(package.split("==") for package in COLAB)
    for name, versions in json.loads(texts[-1]).items():
        assert versions == [wanted[name]] * 2, name  # as loaded and as it lies on disk
