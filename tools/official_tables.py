"""Compares TEDS, S-TEDS and GriTS with their authors' code, on drawn tables that are changed.

    python tools/official_tables.py --teds PubTabNet/src/metric.py \\
        --grits table-transformer/src/grits.py

The files are in folders of yours; they need `pip install apted distance lxml pymupdf`. Prints a
Markdown table, and exits with 1 if a score differs. `--store FILE` keeps some of the tables with
their official scores, for tests/metrics/test_tables.py.
"""

import argparse
import dataclasses
import functools
import html
import importlib.util
import json
import pathlib
import random
import sys
import time
import types
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from pgjax.metrics.grits import content_rewards, grits, topology_rewards
from pgjax.metrics.tables import _grids, _read, _teds

TEXT = """alpha Beta 1.23 4,567 (8) – $ 12% total net income
a b < & > ± 0.01 ﬁ 日本 x² .
"""
WORDS = TEXT.split()
STORED = 25


@dataclasses.dataclass
class Cell:
    """A cell in the grid of a drawn table."""

    text: str
    rows: int = 1
    columns: int = 1


def draw_text(rng: random.Random) -> str:
    """Some words as HTML, some with tags."""
    words = rng.choices(WORDS, k=rng.choice([0, 0, 1, 1, 2, 3, 6]))
    text = html.escape(" ".join(words), quote=False)
    kind = rng.random()
    if kind < 0.15:
        return f"<b>{text}</b>"
    if kind < 0.2:
        return f"{text}<sup>{rng.randint(1, 9)}</sup>"
    return f"<b><i>{text}</i>{rng.randint(1, 99)}</b> x" if kind < 0.22 else text


def draw(rng: random.Random, rows: int, columns: int) -> str:
    """A table as HTML, whose cells cover each place once."""
    free = {(y, x) for y in range(rows) for x in range(columns)}
    lines: list[list[Cell]] = [[] for _ in range(rows)]
    for y in range(rows):
        for x in range(columns):
            if (y, x) in free:
                wanted = (1, 1) if rng.random() < 0.8 else (rng.randint(1, 3), rng.randint(1, 3))
                places = {(y + i, x + j) for i in range(wanted[0]) for j in range(wanted[1])}
                if not places <= free:
                    wanted, places = (1, 1), {(y, x)}
                free -= places
                lines[y].append(Cell(draw_text(rng), *wanted))
    head = rng.choice([0, 1, 1, 2])
    parts = ["<table>"]
    for name, part in (("thead", lines[:head]), ("tbody", lines[head:])):
        inside = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in part)
        parts.append(f"<{name}>{inside}</{name}>" if part else "")
    return "".join([*parts, "</table>"])


def _cell(cell: Cell) -> str:
    spans = "".join(
        f' {name}="{n}"' for name, n in (("rowspan", cell.rows), ("colspan", cell.columns)) if n > 1
    )
    return f"<td{spans}>{cell.text}</td>"


def reworded(rng: random.Random, table: str) -> str:
    """A table with other words in some places, still well formed."""
    for _ in range(rng.randint(0, 6)):
        table = table.replace(rng.choice(WORDS[:11]), rng.choice(WORDS[:11]), rng.randint(1, 2))
    return table


def damaged(rng: random.Random, table: str) -> str:
    """A table with parts cut out or doubled, which is no longer well formed."""
    i, j = sorted(rng.randrange(len(table)) for _ in range(2))
    return rng.choice([table[:i], table[:i] + table[j:], table[:j] + table[i:], table[i:]])


def well_formed(table: str) -> bool:
    """Whether a table is XML, which all releases of lxml read alike."""
    try:
        ElementTree.fromstring(table)
    except ElementTree.ParseError:
        return False
    return True


def load(path: pathlib.Path, **modules: Any) -> Any:
    """Imports a file of the official code, with stand-ins for modules that scores do not need."""
    for name, module in modules.items():
        sys.modules.setdefault(name, module)
    spec = importlib.util.spec_from_file_location(f"official_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Score = Callable[[str, str], float | None]


def _page(table: str) -> str:
    return f"<html><body>{table}</body></html>"


def teds(path: pathlib.Path) -> dict[str, tuple[Score, Score]]:
    """TEDS: github.com/ibm-aur-nlp/PubTabNet."""
    parallel: Any = types.ModuleType("parallel")
    parallel.parallel_process = None
    module = load(path, parallel=parallel)

    def ours(which: int, a: str, b: str) -> float:
        found, truth = _read(a), _read(b)
        return 0.0 if found is None else _teds(truth, found)[which]

    def official(run: Any, a: str, b: str) -> float | None:
        try:
            return run.evaluate(_page(a), _page(b))
        except (ValueError, ZeroDivisionError):
            return None  # a span that is no number, or a table without elements

    return {
        name: (
            functools.partial(official, module.TEDS(structure_only=bool(i))),
            functools.partial(ours, i),
        )
        for i, name in enumerate(("teds", "s_teds"))
    }


def grids(path: pathlib.Path) -> dict[str, tuple[Score, Score]]:
    """GriTS: github.com/microsoft/table-transformer."""
    module = load(path)
    iou = module.iou  # newer releases of pymupdf take lists of numbers, no arrays
    module.iou = lambda a, b: iou([float(v) for v in a], [float(v) for v in b])

    @functools.lru_cache(maxsize=1)
    def official(a: str, b: str) -> dict[str, float]:
        return module.grits_from_html(b, a)

    def ours(name: str, a: str, b: str) -> float:
        (spans_a, texts_a), (spans_b, texts_b) = _grids(_read(a)), _grids(_read(b))
        if name == "grits_top":
            return grits(topology_rewards(spans_b, spans_a))
        return grits(content_rewards(texts_b, texts_a))

    return {
        name: (lambda a, b, name=name: official(a, b)[name], functools.partial(ours, name))
        for name in ("grits_top", "grits_con")
    }


def make_pairs(count: int, seed: int, *, damage: bool) -> list[tuple[str, str]]:
    """Answers and references: tables that begin alike, other ones, and damaged ones if allowed."""
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        rows, columns = rng.randint(1, 8), rng.randint(1, 6)
        truth = draw(random.Random(f"{seed}/{i}"), rows, columns)
        if rng.random() < 0.3:
            rows, columns = rng.randint(1, 8), rng.randint(1, 6)
        alike = random.Random(f"{seed}/{i}" if rng.random() < 0.8 else f"{seed}/{i}/other")
        found = reworded(rng, draw(alike, rows, columns))
        pairs.append((damaged(rng, found) if damage and rng.random() < 0.4 else found, truth))
    return pairs


def main() -> None:
    """Compares what has been given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--teds", type=pathlib.Path, help=teds.__doc__)
    parser.add_argument("--grits", type=pathlib.Path, help=grids.__doc__)
    parser.add_argument("--count", type=int, default=2000, help="pairs of tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=pathlib.Path, help="JSON file for some of the scores")
    args = parser.parse_args()
    kept: dict[str, list] = {}
    wrong = 0
    heads = "score|pairs|mean|the official code ends with an error|equal|official, s|pgjax, s"
    print(f"| {heads.replace('|', ' | ')} |\n|{'---|' * 7}")
    for make, path in ((teds, args.teds), (grids, args.grits)):
        pairs = make_pairs(args.count, args.seed, damage=make is teds)
        for name, sides in make(path).items() if path else ():
            seconds, scores = [], []
            for score in sides:
                start = time.perf_counter()
                scores.append([score(*pair) for pair in pairs])
                seconds.append(time.perf_counter() - start)
            rows = [row for row in zip(pairs, *scores, strict=True) if row[1] is not None]
            differ = [p for p, a, b in rows if abs(a - b) > 1e-9]
            mean = sum(a for _, a, _ in rows) / len(rows)
            print(
                f"| {name} | {len(pairs):,} | {mean:.3f} | {len(pairs) - len(rows)} "
                f"| {len(rows) - len(differ):,} of {len(rows):,} "
                f"| {seconds[0]:.1f} | {seconds[1]:.1f} |"
            )
            if differ:
                print("differ:", differ[0], file=sys.stderr)
            wrong += len(differ)
            kept[name] = [[*p, a] for p, a, _ in rows if well_formed(p[0])][:STORED]
    if args.store:
        args.store.write_text(json.dumps(kept, ensure_ascii=True, separators=(",", ":")) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
