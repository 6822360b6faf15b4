# @title Install pgjax
# It comes from a clone or a wheel beside the notebook, in a folder above it, or in Google Drive
# once that is mounted; else from REPOSITORY. Where it is installed already, nothing happens.
import importlib
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import tempfile

REPOSITORY = "https://github.com/pgjax/pgjax"


def python(*args):
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def find_pgjax():
    here, drive = pathlib.Path.cwd(), pathlib.Path("/content/drive/MyDrive")
    for folder in (here, *here.parents, drive, drive / "Colab Notebooks"):
        for clone in (folder, folder / "pgjax"):
            if (clone / "setup.py").is_file() and (clone / "pgjax/__init__.py").is_file():
                return clone.as_uri()
        if wheels := sorted(folder.glob("paligemma_jax-*.whl")):
            return wheels[-1].as_uri()
    return f"git+{REPOSITORY}"


if not python("-P", "-c", "import pgjax")[0]:
    source = find_pgjax()
    print(f"Installing pgjax from {source}, which takes some minutes.")
    extras = "kaggle,metrics,cuda12" if shutil.which("nvidia-smi") else "kaggle,metrics"
    pip = ["-m", "pip", "install", "-q", f"paligemma-jax[{extras}] @ {source}", "matplotlib"]
    # Packages that this session has loaded keep their versions: it would break if their files
    # changed. Where pgjax needs newer ones, they are installed and the session has to restart.
    owners = importlib.metadata.packages_distributions()
    loaded = {name for module in owners.keys() & sys.modules.keys() for name in owners[module]}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.writelines(f"{name}=={importlib.metadata.version(name)}\n" for name in loaded)
        pins.flush()
        unchanged, said = python(*pip, "-c", pins.name)
    if not unchanged:
        installed, said = python(*pip)
        raise RuntimeError(
            "pgjax is installed, and packages that this session has loaded are newer now: choose "
            "Runtime → Restart session, then run all cells again."
            if installed
            else f"pgjax could not be installed from {source}. Put its wheel, paligemma_jax-….whl, "
            f"beside the notebook and run this cell again. What pip said:\n{said[-2000:]}"
        )
    importlib.invalidate_caches()

import pgjax

print(f"pgjax {pgjax.__version__}")
