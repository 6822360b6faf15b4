"""Pages of the site that are written from the code at every build, so that they stay true.

A hook of mkdocs. Commands come from their `--help`, config keys from the dataclasses that check
them, names from the registries, and the Python reference from signatures and docstrings.
"""

import contextlib
import io
import pathlib
from collections.abc import Callable, Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import pgjax
from pgjax.commands.list import REGISTRIES
from pgjax.commands.main import COMMANDS, main
from pgjax.config import reference

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = sorted(p.parent.name for p in (ROOT / "pgjax").glob("*/__init__.py"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds a page for each package to the navigation."""
    section = next(item["Reference"] for item in config.nav if "Reference" in item)
    section.append({"Packages": [{f"pgjax.{name}": _page_of(name)} for name in PACKAGES]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    for path, make in _pages().items():
        files.append(File.generated(config, path, content=make()))
    return files


def _pages() -> dict[str, Callable[[], str]]:
    return {
        "contributing.md": lambda: _of_the_root("CONTRIBUTING.md"),
        "changelog.md": lambda: _of_the_root("CHANGELOG.md"),
        "measured.md": lambda: _of_the_root("tools/bench/RESULTS.md"),
        "reference/commands.md": _commands,
        "reference/config.md": reference.markdown,
        "reference/names.md": _names,
        "reference/python.md": _python,
        **{_page_of(name): lambda name=name: _package(name) for name in PACKAGES},
    }


def _page_of(package: str) -> str:
    return f"reference/packages/{package}.md"


def _of_the_root(name: str) -> str:
    """A file of the top folder, whose links are relative to that folder."""
    text = (ROOT / name).read_text().replace("](docs/", "](")
    return text.replace("](CHANGELOG.md)", "](changelog.md)")


def _commands() -> str:
    parts = [
        "# Commands",
        "What `pgjax COMMAND --help` prints. Flags are written as `--name=value` or "
        "`--name value`; a boolean one is `--name` or `--noname`. Errors are one sentence on the "
        "error stream and a status other than 0; `--debug` adds the traceback.",
        _printed("--help"),
    ]
    for name in COMMANDS:
        parts += [f"## pgjax {name}", _printed(name, "--help")]
    return "\n\n".join(parts) + "\n"


def _names() -> str:
    parts = [
        "# Names",
        "What a config or a flag can name, as `pgjax list WHAT` prints it. Modules of your own add "
        "to most of these lists: see [Extending](../extending.md).",
    ]
    for what in ("configs", "checkpoints", "benchmarks", *REGISTRIES):
        parts += [f"## {what}", _printed("list", what)]
    return "\n\n".join(parts) + "\n"


def _printed(*args: str) -> str:
    """A block with what `pgjax ARGS` prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(args)
    return f"```text\n{out.getvalue().rstrip()}\n```"


def _python() -> str:
    parts = ["# Python", "What `import pgjax` offers."]
    for name in pgjax.__all__:
        thing = getattr(pgjax, name)
        where = f"{thing.__module__}.{thing.__qualname__}"
        parts.append(f"::: {where}\n    options: {{heading: pgjax.{name}}}\n")
    return "\n\n".join(parts)


def _package(name: str) -> str:
    """The package's docstring, then its modules with their public classes and functions."""
    parts = [f"# pgjax.{name}", f"::: pgjax.{name}\n    options: {{show_root_heading: false}}\n"]
    parts += [f"::: {module}\n" for module in _modules(ROOT / "pgjax" / name)]
    return "\n\n".join(parts)


def _modules(folder: pathlib.Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        if path.stem != "__init__":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)
