"""Executes the notebooks in `colabs/` and stores them with their outputs.

python tools/run_notebooks.py                       # all of them, in place, in tiny mode
python tools/run_notebooks.py colabs/inference.ipynb --out elsewhere/
python tools/run_notebooks.py colabs/inference.ipynb --checkpoint mix-224 --out elsewhere/
"""

import argparse
import os
import pathlib
import re
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT = 3600  # the most seconds that a cell may take
# What gives a notebook a real checkpoint.
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
CHOICE = 'CHECKPOINT = "'


def execute(path: pathlib.Path, out: pathlib.Path, checkpoint: str | None) -> None:
    """Runs a notebook in a folder that has nothing but `tests/`, and writes it to `out`.

    Args:
      path: the notebook.
      out: the folder for the executed one.
      checkpoint: the checkpoint to use instead of the notebook's, with this machine's tokens; None
        to hide the tokens, so that the notebook uses the tiny one.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    if checkpoint:
        cell = next(cell for cell in notebook.cells if CHOICE in cell.source)
        cell.source = re.sub(f'{CHOICE}[^"]*"', f'{CHOICE}{checkpoint}"', cell.source)
    else:
        env = {k: v for k, v in env.items() if k not in (*TOKENS, "PGJAX_CHECKPOINTS")}
        env["HF_TOKEN_PATH"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(ROOT / "tests", pathlib.Path(folder) / "tests")  # for its photographs
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            resources={"metadata": {"path": folder}},
            kernel_name="python3",
        )
        client.execute(env=env)
    slim(notebook)
    part = out / f"{path.name}.part"
    nbformat.write(notebook, part)
    part.replace(out / path.name)


def slim(notebook: nbformat.NotebookNode) -> None:
    """Removes times, second copies of pictures, and what a terminal would have written over."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        merged: list[nbformat.NotebookNode] = []
        for output in cell.outputs:
            same = merged and "name" in output and merged[-1].get("name") == output.name
            if same:
                merged[-1].text += output.text
            else:
                merged.append(output)
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png", None)
        for output in merged:
            if "text" in output:
                output.text = "".join(map(_visible, re.findall(r"[^\n]*\n|[^\n]+", output.text)))
        cell.outputs = [output for output in merged if output.get("text", "-")]


def _visible(line: str) -> str:
    """What a terminal shows of a line in the end, "" for warnings of libraries and for nothing."""
    parts = [part.rstrip() for part in re.sub(r"\x1b\[\w+", "", line).split("\r")]
    shown = next((part for part in reversed(parts) if part.strip()), "")
    marks = ("WARNING:absl", "os.fork", "/site-packages/", "  warnings.warn(")
    warning = any(mark in shown for mark in marks)
    blank = not shown and line.strip(" \n") != ""  # a bar that was wiped
    return "" if warning or blank else f"{shown}\n"


def main(argv: list[str] | None = None) -> int:
    """Executes the notebooks one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "notebooks",
        nargs="*",
        type=pathlib.Path,
        help="the notebooks to run (default: all of colabs/)",
    )
    parser.add_argument(
        "--checkpoint",
        help="the checkpoint to use instead of the notebook's, with this machine's tokens",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "colabs", help="the folder to write to"
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.notebooks or sorted((ROOT / "colabs").glob("*.ipynb")):
        execute(path, args.out, args.checkpoint)
        print(args.out / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
