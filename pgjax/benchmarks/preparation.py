"""Turns the official files of a benchmark into a data set that the transfers read.

What comes out is OUT/NAME/VERSION, a TFDS data set in array_record format, or a file SPLIT.jsonl
for each split with the images beside it. The folder gets its name when it is complete; after an
interruption, the same call continues where it was.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from pgjax.benchmarks.features import check_features
from pgjax.benchmarks.official_files import Files, reason
from pgjax.benchmarks.reader import Reader
from pgjax.benchmarks.readers import READERS
from pgjax.benchmarks.shards import tfds_features, write_info, write_shard
from pgjax.data.workers import check_main_module, end_with_parent, lost_worker
from pgjax.errors import DataError, UserError, writing

PER_SHARD = 1024  # examples; of photographs, some 200 MB
FORMATS = ("tfds", "jsonl")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The data set that is to be written, and where."""

    name: str
    folder: pathlib.Path  # of the unfinished data set
    format: str
    options: Mapping[str, Any]
    counts: Mapping[str, int]  # split -> examples
    per_shard: int

    @property
    def reader(self) -> Reader:
        """The benchmark's reader, looked up by name, since functions are not sent to workers."""
        return READERS[self.name]

    def shards(self, split: str) -> int:
        """How many shards a split has."""
        return max(1, -(-self.counts[split] // self.per_shard))

    def path(self, split: str, index: int) -> pathlib.Path:
        """The file of a shard, named as TFDS names it."""
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
      source: folder with the official files; zip and tar archives in it are read in place.
      out: folder of all data sets.
      format: `tfds` or `jsonl`.
      splits: which splits of the reader to prepare; () for all.
      workers: number of processes; 0 to work in this one.
      check_counts: whether numbers of examples other than the official ones are an error.
      overwrite: replace a data set that is there, and do not continue an unfinished one.
      per_shard: examples in a file.
      **options: options of the reader.

    Returns:
      The report, which is also stored as report.json: `path`, `splits` with the numbers of
      examples, and `unreadable` with the examples that could not be read and the reasons.

    Raises:
      UserError: files are missing or not as published, or numbers of examples are not official.
    """
    reader = READERS[name]
    splits = tuple(splits) or tuple(reader.splits)
    if unknown := [s for s in splits if s not in reader.splits]:
        raise UserError(f"--splits {unknown}: {name} has only {list(reader.splits)}.")
    final = pathlib.Path(out) / name / reader.version
    folder = final.with_name(f"{reader.version}.incomplete")
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    elif final.exists():
        raise UserError(f"{final} exists already; --overwrite replaces it.")
    files = Files(source, folder / "unpacked")
    options = {**reader.options, **options}
    examples = {split: list(_read(name, files, split)) for split in splits}
    counts = {split: len(rows) for split, rows in examples.items()}
    if check_counts:
        _check_counts(name, reader, counts)
    plan = Plan(name, folder, format, options, counts, per_shard)
    with writing(folder):
        _begin(plan, examples)
        done = _write(plan, examples, workers)
        report = _finish(plan, done)
        _replace(folder, final)
    return {"path": str(final), **report}


def _read(name: str, files: Files, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split, whose ids must all differ.

    Readers take it that files are as published; what they run into in others is explained here.
    """
    reader, seen = READERS[name], set()
    try:
        for example in reader.read(files, split):
            key = example[reader.key]
            check_features(key, reader.features[reader.key])
            if key in seen:
                raise UserError(f"{split}: {reader.key} {key!r} comes twice, expected once.")
            seen.add(key)
            yield example
    except Exception as e:
        if isinstance(e, UserError) and not isinstance(e, DataError):
            raise  # a sentence already
        place = files.place or f"example {len(seen)} of {split}"
        if files.at_start and not seen:
            what = f"this is not the format of {name}; --help says where to get its files"
        else:
            what = "this record is bad, the file may be damaged"
        raise UserError(f"{files.source}: {place}: {reason(e)}; {what}.") from e


def _check_counts(name: str, reader: Reader, counts: Mapping[str, int]) -> None:
    wrong = [
        f"{split} has {count:,} of {reader.splits[split]:,}"
        for split, count in counts.items()
        if reader.splits[split] not in (None, count)
    ]
    if wrong:
        raise UserError(
            f"{name}: these are not the official numbers of examples: {'; '.join(wrong)}. "
            "Files may be missing or cut short; --nocheck_counts prepares them all the same."
        )


def _begin(plan: Plan, examples: Mapping[str, list]) -> None:
    """Makes the folder, or checks that an unfinished data set in it is the same one."""
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
                "again from nothing."
            )
    plan.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stated))


def _write(plan: Plan, examples: Mapping[str, list], workers: int) -> dict[str, list[dict]]:
    """Writes the shards that are missing; returns the results of all, in order."""
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
    check_main_module()
    # Fresh processes, since threads of what is loaded here do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        futures = [pool.submit(_one, plan, task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except BaseException as e:
            pool.shutdown(cancel_futures=True)
            if isinstance(e, concurrent.futures.process.BrokenProcessPool):
                raise lost_worker(e) from None
            raise


def _one(plan: Plan, task: tuple[str, int, list]) -> tuple[str, int, dict]:
    """Writes one shard, unless its result, which is written last, is there already."""
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
    """Makes a data set of the shards, and removes what is no longer needed."""
    unreadable = [
        {"split": split, **left}
        for split, rows in done.items() for row in rows for left in row["left"]
    ]  # fmt: skip
    lengths = {split: [row["count"] for row in rows] for split, rows in done.items()}
    for split, counts in lengths.items():
        if not sum(counts):
            reasons = [left["reason"] for left in unreadable if left["split"] == split]
            why = f"the first reason: {reasons[0]}" if reasons else "the files hold none"
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
