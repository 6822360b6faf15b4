"""The notebooks with released names: gated repositories of a hub on loopback, a token in Secrets.

Colab, its GPU and its downloads are emulated, and the checkpoints are small, see `emulation/`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import GOLDEN, PHOTOS, ROOT, TESTS
from hub_server import Hub
from stored_notebooks import check, text_of

pytestmark = pytest.mark.slow
EMULATION = TESTS / "colabs" / "emulation"
TOKENIZER = "pt-224"  # whose repository has the tokenizer
# Notebook and checkpoint -> others that it uses; some are of PaliGemma, some of PaliGemma 2.
CASES = {
    ("inference", "paligemma2-3b-mix-224"): (),
    ("finetune_paligemma", "pt-224.f16"): (),
    ("detection", "paligemma2-3b-pt-224"): (),
    ("qlora_448", "pt-448.f16"): (),
    ("evaluate", "ft-ai2d-224.f16"): ("mix-224.f16",),
}
LEAST = {"evaluate": 1, "qlora_448": 3}  # pictures in a notebook; in others there are four


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with all checkpoints that the cases need; they are gated."""
    folder = tmp_path_factory.mktemp("releases")
    names = {TOKENIZER, *(x for (_, name), more in CASES.items() for x in (name, *more))}
    names = {name.split(".")[0] for name in names}
    subprocess.run(
        [sys.executable, TESTS / "colabs" / "make_releases.py", folder, *sorted(names)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{EMULATION}"}, check=True, timeout=300,
    )  # fmt: skip
    repos = {
        str(repo.relative_to(folder)): {file.name: file.read_bytes() for file in repo.iterdir()}
        for repo in folder.glob("*/*")
    }
    gated = [*repos]
    repos["google/paligemma-hf"] = {"vae-oid.npz": (GOLDEN / "vae.npz").read_bytes()}
    with Hub(repos, gated=gated) as server:
        yield server


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """What the notebooks take from elsewhere: a bucket of captioned images, and AI2D."""
    folder = tmp_path_factory.mktemp("downloads")
    bucket = folder / "longcap100"
    shutil.copytree(PHOTOS, bucket)
    rows = [{"image": p.name, "suffix": f"a photograph, {p.stem}"} for p in PHOTOS.glob("*.jpg")]
    for name, some in (("data_train90", rows * 4), ("data_val10", rows)):
        (bucket / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    sys.path.append(str(TESTS / "benchmarks"))
    try:
        from make_ai2d import make
    finally:
        sys.path.pop()
    make(folder)
    return folder


@pytest.mark.parametrize(("name", "checkpoint"), CASES)
def test_executed(name, checkpoint, hub, downloads, tmp_path, compilation_cache):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PGJAX_", "KAGGLE_"))}
    env |= {
        "PATH": f"{EMULATION / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(EMULATION),
        "EMULATED_SECRETS": json.dumps({"HF_TOKEN": "good"}), "EMULATED_DOWNLOADS": str(downloads),
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN_PATH": os.devnull, "NO_PROXY": "*",
        "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
    }  # fmt: skip
    hub.log.clear()
    done = subprocess.run(
        [sys.executable, ROOT / "tools/run_notebooks.py", ROOT / "colabs" / f"{name}.ipynb",
         "--checkpoint", checkpoint, "--out", tmp_path],
        env=env, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = json.loads((tmp_path / f"{name}.ipynb").read_text())
    check(notebook, LEAST.get(name, 4))
    said = text_of(notebook)
    assert f"This notebook goes on with {checkpoint}." in said and "tiny" not in said
    fetched = {pathlib.Path(path).parts[2] for _, path, _ in hub.log if "/cdn/" in path}
    assert any(checkpoint.split(".")[0] in repo for repo in fetched), fetched
