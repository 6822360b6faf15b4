"""What the documentation shows is true: code runs, commands have these flags, links lead on."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import PHOTOS, ROOT, TESTS
from doc_pages import PAGES, anchors, blocks, commands, links

from pgjax.commands.main import COMMANDS, command_class

LANGUAGES = {"python", "bash", "json", "yaml", "text", "bibtex"}
MARKS = {"", "run", "slow", "parse"}
# Programs that commands on the pages may start, beside pgjax.
PROGRAMS = {
    ".", "basedpyright", "bash", "cat", "cd", "curl", "docker", "export", "gcloud", "git", "gsutil",
    "huggingface-cli", "hf", "kubectl", "lmms-eval", "ls", "mkdocs", "mkdir", "pip", "pre-commit",
    "python", "python3", "ruff", "sbatch", "source", "ssh", "tensorboard", "unzip", "xpk",
    ".ci/run",
}  # fmt: skip
EXTRAS = set(re.findall(r'^        "(\w+)": \[', (ROOT / "setup.py").read_text(), re.MULTILINE))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with photographs, which also lie where a clone has them."""
    shutil.copytree(PHOTOS, tmp_path / "photos")
    shutil.copytree(PHOTOS, tmp_path / "tests" / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each_page
def test_blocks_are_of_known_languages(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: {block.language!r}"
        assert block.mark in MARKS, f"{block.where}: {block.mark!r}"


@each_page
def test_data_can_be_read(page):
    for block in blocks(page):
        try:
            if block.language == "yaml":
                list(yaml.safe_load_all(block.code))
            elif block.language == "json":
                for line in block.code.splitlines():
                    json.loads(line)
            elif block.language == "python":
                compile(block.code, block.where, "exec")
        except (ValueError, SyntaxError, yaml.YAMLError) as e:
            raise AssertionError(f"{block.where}: {e}") from e


@each_page
def test_imported_names_exist(page):
    """Also those of files that only a slow block uses."""
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("pgjax"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{block.where}: {alias.name}"


@each_page
def test_commands_exist(page, folder):
    for block in blocks(page):
        if block.title:
            write(folder, block)
        if block.language == "bash":
            for words in commands(block.code):
                check_command(words, block.where)


@each_page
def test_links(page):
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if re.search(r"(^|/)reference/|(changelog|contributing|measured)\.md$", path):
            continue  # generated; mkdocs build --strict looks at these
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@each_page
def test_named_files_exist(page):
    if page.name == "CHANGELOG.md":  # which names what was
        return
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    written = {block.title for block in blocks(page)}
    for name in re.findall(r"`([\w.]+/[\w./]*\.(?:py|ipynb|sh|yaml))`", text):
        places = [ROOT / name, ROOT / "pgjax" / name]
        found = name in written or name.endswith("/signs.py") or any(p.exists() for p in places)
        assert found, f"{page.name}: {name}"


def test_the_tree_of_the_architecture():
    page = ROOT / "docs" / "architecture.md"
    tree = next(b for b in blocks(page) if "configs/" in b.code and "colabs/" in b.code)
    for line in tree.code.splitlines():
        names = re.match(r"( *)((?:[\w.]+[/\w.]* ?)+)(?=  |$)", line)
        if names and len(names[1]) <= 2:
            for name in names[2].split():
                place = ROOT / "pgjax" if names[1] else ROOT
                assert (place / name).exists(), line
    listed = set(re.findall(r"^  (\w+)/ ", tree.code, re.MULTILINE))
    assert listed == {p.parent.name for p in (ROOT / "pgjax").glob("*/__init__.py")}


@each_page
def test_snippets_run(page, folder, environment):
    run_page(page, folder, environment, slow=False)


@pytest.mark.slow
@each_page
def test_all_snippets_run(page, folder, environment):
    if any(block.mark == "slow" for block in blocks(page)):
        run_page(page, folder, environment, slow=True)


def run_page(page, folder, environment, slow):
    steps = []
    for block in blocks(page):
        if block.title:
            write(folder, block)
        elif (
            block.mark == "run"
            or (block.language == "python" and not block.mark)
            or (slow and block.mark == "slow")
        ):
            steps.append((block.where, block.language, block.code))
    if not steps:
        return
    done = subprocess.run(
        [sys.executable, TESTS / "docs" / "run_page.py"], input=json.dumps(steps), cwd=folder,
        env=environment, capture_output=True, text=True, timeout=1200 if slow else 240,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"


@pytest.fixture
def environment(compilation_cache, released, folder):
    """`pgjax` and `python` on the path are those under test; nothing is downloaded."""
    programs = folder / ".programs"
    programs.mkdir()
    for name, run in (("pgjax", f"{sys.executable} -m pgjax"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {run} "$@"\n')
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PGJAX_CHECKPOINTS": str(released),
    }


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder with what a user downloads, by its names; the tiny checkpoint's in truth."""
    folder = tmp_path_factory.mktemp("released")
    packaged = ROOT / "pgjax"
    for name in ("mix-224", "pt-224", "ft-vqav2-448"):
        shutil.copy(packaged / "checkpoints" / "tiny.npz", folder / f"paligemma-3b-{name}.npz")
    shutil.copy(packaged / "checkpoints" / "tiny_vae.npz", folder / "vae-oid.npz")
    shutil.copy(packaged / "text" / "tiny_tokenizer.model", folder / "paligemma_tokenizer.model")
    return folder


def write(folder, block):
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.code)


def check_command(words, where):
    """A command of a page: its program is known, and pgjax takes its flags."""
    program, *args = words
    if program == "python" and args[:2] == ["-m", "pgjax"]:
        program, args = "pgjax", args[2:]
    elif program == "python" and args[0] == "-m" and args[1].startswith("pgjax.harnesses."):
        assert importlib.util.find_spec(args[1]), f"{where}: {args[1]}"
        return
    elif program == "python" and args[0] == "-m" and args[1].startswith("pgjax."):
        program, args = "pgjax", [args[1].removeprefix("pgjax."), *args[2:]]
    if program == "pgjax":
        check_pgjax(args, where)
        return
    assert program in PROGRAMS, f"{where}: {program}"
    if program == "python" and args[0].startswith(("tools/", "tests/")):
        assert (ROOT / args[0]).exists(), f"{where}: {args[0]}"
    if program == "pip":
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(args)):
            assert set(extra.split(",")) <= EXTRAS, f"{where}: {extra}"


def check_pgjax(args, where):
    if args[0] in ("--help", "--version"):
        return
    assert args[0] in COMMANDS, f"{where}: pgjax {args[0]}"
    command = command_class(args[0])(args[1:])
    if "--help" in args:
        return
    try:
        command.parse()
    except Exception as e:
        raise AssertionError(f"{where}: pgjax {' '.join(args)}: {e}") from e
    if "--copy_config" in args:
        command.run()  # later commands use the copy


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            assert str(page.relative_to(ROOT / "docs")) in text


def test_no_page_loads_anything_from_elsewhere():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False and "extra_javascript" not in config
    assert not {"extra_css", "copyright"} & set(config)


@each_page
def test_marks_stand_before_blocks(page):
    marks = re.findall("^ *<!-- test:", page.read_text(), re.MULTILINE)
    assert len(marks) == sum(bool(block.mark) for block in blocks(page))
