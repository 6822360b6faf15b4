"""Turns the official files of a benchmark into a data set that the transfers read.

    python tools/prepare.py --list
    python tools/prepare.py vqav2 --help
    python tools/prepare.py vqav2 --source ~/downloads/vqav2 --out ~/tensorflow_datasets

The source is a folder with the files as their owners publish them; zip and tar archives are read
in place. What comes out is OUT/NAME/VERSION, a TFDS data set in array_record format, or with
`--format jsonl` a file SPLIT.jsonl per split, with the images beside. It appears when it is whole;
after an interruption the same command goes on where it was. OUT is $PGJAX_DATA, or TFDS's default
folder, where not given, as for the transfers.

Examples that cannot be read are listed with their reasons on the screen and in report.json beside
the data, and the exit status is then 3. Numbers of examples other than the official ones are an
error before any work is done; `--no-check_counts` goes on.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readers import READERS, Files, Reader
from readers.common_write import tfds_features, write_info, write_shard
from tqdm import tqdm

from pgjax.data.prepared_source import default_data_dir
from pgjax.data.workers import end_with_parent
from pgjax.errors import UserError

PER_SHARD = 1024  # examples; of photographs, some 200 MB
FORMATS = ("tfds", "jsonl")
SHOWN = 5  # reasons, on the screen


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be written, and where."""

    name: str
    folder: pathlib.Path  # of the unfinished data set
    format: str
    options: Mapping[str, Any]
    counts: Mapping[str, int]  # split -> examples
    per_shard: int

    @property
    def reader(self) -> Reader:
        """Looked up by name, since functions do not travel to workers."""
        return READERS[self.name]

    def shards(self, split: str) -> int:
        """Number of shards of a split."""
        return max(1, -(-self.counts[split] // self.per_shard))

    def path(self, split: str, index: int) -> pathlib.Path:
        """A shard's file, named as TFDS does."""
        kind = "array_record" if self.format == "tfds" else "jsonl"
        of = f"{index:05}-of-{self.shards(split):05}"
        return self.folder / f"{self.name}-{split}.{kind}-{of}"


def prepare(
    name: str,
    source: pathlib.Path,
    out: pathlib.Path,
    *,
    format: str = "tfds",
    splits: Sequence[str] = (),
    workers: int = 0,
    check_counts: bool = True,
    overwrite: bool = False,
    per_shard: int = PER_SHARD,
    **options: Any,
) -> dict[str, Any]:
    """Prepares one benchmark.

    Args:
      name: key of `READERS`.
      source: folder with the official files.
      out: folder of all data sets.
      format: `tfds` or `jsonl`.
      splits: some of the reader's; () for all.
      workers: processes; 0 for this one.
      check_counts: numbers of examples must be the official ones.
      overwrite: start anew what is there.
      per_shard: examples in a file.
      **options: of the reader.

    Returns:
      The report, which is also stored as report.json: `path`, `splits` with the numbers of
      examples, and what is `unreadable`.

    Raises:
      UserError: files that are missing or not as published, or other numbers of examples.
    """
    reader = READERS[name]
    splits = tuple(splits) or tuple(reader.splits)
    if unknown := [s for s in splits if s not in reader.splits]:
        raise UserError(f"--splits {unknown} is unknown; {name} has {list(reader.splits)}.")
    final = pathlib.Path(out) / name / reader.version
    folder = final.with_name(f"{reader.version}.incomplete")
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    elif final.exists():
        raise UserError(f"{final} is there already; --overwrite replaces it.")
    files = Files(source, folder / "unpacked")
    options = {**reader.options, **options}
    examples = {split: list(_read(reader, files, split)) for split in splits}
    counts = {split: len(rows) for split, rows in examples.items()}
    if check_counts:
        _check_counts(name, reader, counts)
    plan = Plan(name, folder, format, options, counts, per_shard)
    _begin(plan, examples)
    done = _write(plan, examples, workers)
    report = _finish(plan, done)
    _replace(folder, final)
    return {"path": str(final), **report}


def _read(reader: Reader, files: Files, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split, each with an id of its own."""
    seen = set()
    for example in reader.read(files, split):
        key = example[reader.key]
        if key in seen:
            raise UserError(f"{split}: {reader.key} {key!r} comes twice, expected it once.")
        seen.add(key)
        yield example


def _check_counts(name: str, reader: Reader, counts: Mapping[str, int]) -> None:
    wrong = [
        f"{split} has {count:,} of {reader.splits[split]:,}"
        for split, count in counts.items()
        if reader.splits[split] not in (None, count)
    ]
    if wrong:
        raise UserError(
            f"{name}: these are not the official numbers of examples: {'; '.join(wrong)}. "
            "Are the files whole? --no-check_counts goes on."
        )


def _begin(plan: Plan, examples: Mapping[str, list]) -> None:
    """Makes the folder, or checks that what is in it was begun for the same."""
    digest = hashlib.sha256()
    for split, rows in examples.items():
        digest.update(split.encode())
        for row in rows:
            digest.update(repr([getattr(v, "name", v) for v in row.values()]).encode())
    stated = {
        "version": plan.reader.version,
        "format": plan.format,
        "options": dict(plan.options),
        "per_shard": plan.per_shard,
        "counts": dict(plan.counts),
        "digest": digest.hexdigest(),
    }
    path = plan.folder / "plan.json"
    if path.exists():
        before = json.loads(path.read_text())
        if changed := [key for key, value in stated.items() if before.get(key) != value]:
            raise UserError(
                f"{plan.folder} was begun with another {', '.join(changed)}; --overwrite starts "
                "anew."
            )
    plan.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stated))


def _write(plan: Plan, examples: Mapping[str, list], workers: int) -> dict[str, list[dict]]:
    """Writes the shards that are not there yet; the results of all, in order."""
    tasks = [
        (split, index, rows[index * plan.per_shard : (index + 1) * plan.per_shard])
        for split, rows in examples.items()
        for index in range(plan.shards(split))
    ]
    bar = tqdm(total=sum(plan.counts.values()), unit=" examples", disable=None, leave=False)
    results: dict[tuple[str, int], dict] = {}
    with bar:
        for split, index, result in _run(plan, tasks, workers):
            results[split, index] = result
            bar.update(result["count"] + len(result["left"]))
    return {
        split: [results[split, index] for index in range(plan.shards(split))] for split in examples
    }


def _run(plan: Plan, tasks: list, workers: int) -> Iterator[tuple[str, int, dict]]:
    if not workers:
        yield from map(functools.partial(_one, plan), tasks)
        return
    # Fresh processes, since threads of what is loaded here do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        futures = [pool.submit(_one, plan, task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _one(plan: Plan, task: tuple[str, int, list]) -> tuple[str, int, dict]:
    """Writes one shard, unless its result says that it was; the result is written last."""
    split, index, rows = task
    path = plan.path(split, index)
    noted = path.with_name(f"{path.name}.json")
    if noted.exists():
        return split, index, json.loads(noted.read_text())
    features = _features(plan.name) if plan.format == "tfds" else None
    count, size, left = write_shard(plan.reader, rows, path, plan.options, features)
    result = {"count": count, "bytes": size, "left": left}
    part = noted.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.replace(noted)
    return split, index, result


@functools.lru_cache(maxsize=1)
def _features(name: str) -> Any:
    return tfds_features(READERS[name].features)


def _finish(plan: Plan, done: Mapping[str, list[dict]]) -> dict[str, Any]:
    """Ties the shards to a data set and cleans up."""
    unreadable = [
        {"split": split, **left}
        for split, rows in done.items() for row in rows for left in row["left"]
    ]  # fmt: skip
    lengths = {split: [row["count"] for row in rows] for split, rows in done.items()}
    for split, counts in lengths.items():
        if not sum(counts):
            reasons = [left["reason"] for left in unreadable if left["split"] == split]
            why = f"the first: {reasons[0]}" if reasons else "the files hold none"
            raise UserError(f"{plan.name}: {split} has no example that can be read ({why}).")
    if plan.format == "tfds":
        sizes = {split: sum(row["bytes"] for row in rows) for split, rows in done.items()}
        shards = {split: (counts, sizes[split]) for split, counts in lengths.items()}
        write_info(plan.name, plan.reader, plan.folder, _features(plan.name), shards)
    else:
        for split in lengths:
            with (plan.folder / f"{split}.jsonl").open("wb") as whole:
                for index in range(plan.shards(split)):
                    with plan.path(split, index).open("rb") as shard:
                        shutil.copyfileobj(shard, whole)
    official = plan.reader.splits
    report = {
        "name": plan.name,
        "options": dict(plan.options),
        "splits": {
            split: {"examples": sum(counts), "official": official[split]}
            for split, counts in lengths.items()
        },
        "unreadable": unreadable,
    }
    (plan.folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    for split in lengths:
        for index in range(plan.shards(split)):
            path = plan.path(split, index)
            path.with_name(f"{path.name}.json").unlink()
            if plan.format == "jsonl":
                path.unlink()
    shutil.rmtree(plan.folder / "unpacked", ignore_errors=True)
    (plan.folder / "plan.json").unlink()
    return report


def _replace(folder: pathlib.Path, final: pathlib.Path) -> None:
    if final.exists():
        shutil.rmtree(final)
    folder.replace(final)


def _parser(name: str | None) -> argparse.ArgumentParser:
    reader = READERS.get(name or "")
    text = __doc__
    if reader:
        counts = ", ".join(
            f"{split} {'(not published)' if n is None else f'{n:,}'}"
            for split, n in reader.splits.items()
        )
        text = (
            f"{reader.about}\n\nFiles:\n{reader.where}\n\nLicence: {reader.licence}\n\n"
            f"Splits, with the official numbers of examples: {counts}."
        )
    parser = argparse.ArgumentParser(
        prog=f"prepare.py {name}" if reader else None,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not reader:
        parser.add_argument("name", choices=[*READERS], metavar="NAME", nargs="?")
        parser.add_argument("--list", action="store_true", help="the names, with what they are")
        return parser
    parser.add_argument("--source", type=pathlib.Path, required=True, help="the official files")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="folder of all data sets")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    parser.add_argument("--splits", default="", help="some only, such as train,validation")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; 0: none")
    parser.add_argument("--check_counts", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    for key, value in reader.options.items():
        if isinstance(value, bool):
            parser.add_argument(f"--{key}", action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(
                f"--{key}", type=type(value), default=value, help=f"default {value}"
            )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Reads the arguments, prepares, and says what came of it."""
    argv = sys.argv[1:] if argv is None else list(argv)
    name = argv[0] if argv and argv[0] in READERS else None
    if name is None:
        args = _parser(None).parse_args(argv)
        for key, reader in READERS.items():
            print(f"{key:16} {reader.about}")
        return 0 if args.list else 2
    args = vars(_parser(name).parse_args(argv[1:]))
    args["splits"] = [s for s in args["splits"].split(",") if s]
    args["out"] = args["out"] or pathlib.Path(default_data_dir())
    try:
        report = prepare(name, **args)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(report["path"])
    for split, row in report["splits"].items():
        print(f"  {split}: {row['examples']:,} examples")
    left = report["unreadable"]
    reasons = collections.Counter(row["split"] for row in left)
    for row in left[:SHOWN]:
        print(f"left out: {row['split']} {row['id']}: {row['reason']}", file=sys.stderr)
    if left:
        print(f"left out: {dict(reasons)}, all of them in report.json", file=sys.stderr)
    return 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
