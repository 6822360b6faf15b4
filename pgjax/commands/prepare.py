"""`pgjax prepare`."""

import collections
import difflib
import os
import pathlib
import sys
from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.errors import UsageError

# What options of readers mean.
OPTIONS = {
    "frames": "Frames to take from each video.",
    "stride": "Distance between frames, in frames of the video.",
    "size": "Shorter side of the stored frames, in pixels, at most.",
    "tiny": "Write masks as codes of the tiny checkpoint, instead of the released ones.",
}
SHOWN = 5  # examples that could not be read, on the screen


class Prepare(Command):
    """Prepares the official files of a benchmark for the transfers.

    `pgjax prepare --list` shows the benchmarks, and `pgjax prepare NAME --help` where to get the
    files of one. They are read as their owners publish them; zip and tar archives are read in
    place. Examples that cannot be read are listed on the screen and in report.json beside the data.
    After an interruption, the same command continues where it was.
    """

    name = "prepare"
    arguments = "[NAME]"
    example = "pgjax prepare vqav2 --source downloads/vqav2 --out /data/benchmarks"
    statuses = {3: "the data is prepared, but some examples could not be read"}

    def __init__(self, argv: Sequence[str]):
        """Defines the flags; a benchmark may add its own."""
        super().__init__(argv)
        from pgjax.benchmarks.readers import READERS

        named = next((arg for arg in self.argv if arg in READERS), None)
        self._reader = READERS[named] if named else None
        self._list = self.boolean("list", False, "Show the benchmarks and stop.")
        self._source = self.text("source", None, "Folder with the official files. Required.")
        self._out = self.text(
            "out", None,
            "Folder of all data sets; left out: $PGJAX_DATA, or the default folder of TFDS.",
        )  # fmt: skip
        self._format = self.choice(
            "format", "tfds", ["tfds", "jsonl"],
            "What is written: TFDS's array_record files, or JSONL files with images beside them.",
        )  # fmt: skip
        self._splits = self.items(
            "splits", "Splits to prepare, as in train,validation; left out: all."
        )
        self._workers = self.integer(
            "workers", os.cpu_count() or 1, "Number of processes; 0: work in this one.", 0
        )
        self._check_counts = self.boolean(
            "check_counts", True, "Stop where numbers of examples are not the official ones."
        )
        self._overwrite = self.boolean("overwrite", False, "Replace a data set that is there.")
        self._options = {}
        for key, value in self._reader.options.items() if self._reader else ():
            make = self.boolean if isinstance(value, bool) else self.integer
            self._options[key] = make(key, value, OPTIONS.get(key, f"Option of {named}."))

    def describe(self) -> str:
        """What the benchmark is and where its files are, if one is named."""
        if not (reader := self._reader):
            return super().describe()
        counts = ", ".join(
            f"{split} {'(not published)' if count is None else f'{count:,}'}"
            for split, count in reader.splits.items()
        )
        return (
            f"{reader.about}\n\nFiles:\n{reader.where}\n\nLicence: {reader.licence}\n\n"
            f"Splits, with the official numbers of examples: {counts}."
        )

    def run(self) -> int:
        """Prepares a benchmark and says what came of it."""
        from pgjax.benchmarks.readers import READERS

        if self._list.value:
            for name, reader in READERS.items():
                print(f"{name:16} {reader.about}")
            return 0
        if not self.positional:
            raise UsageError("Name a benchmark; pgjax prepare --list shows them.")
        name = self.positional[0]
        if name not in READERS:
            near = difflib.get_close_matches(name, READERS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "pgjax prepare --list shows them."
            raise UsageError(f"{name!r} is not a known benchmark; {hint}")
        if not self._source.value:
            raise UsageError(f"--source is missing; pgjax prepare {name} --help says of what.")
        from pgjax.benchmarks.preparation import prepare
        from pgjax.data.prepared_source import default_data_dir

        report = prepare(
            name,
            pathlib.Path(self._source.value).expanduser(),
            pathlib.Path(self._out.value or default_data_dir()).expanduser(),
            format=self._format.value,
            splits=self._splits.value,
            workers=self._workers.value,
            check_counts=self._check_counts.value,
            overwrite=self._overwrite.value,
            **{key: holder.value for key, holder in self._options.items()},
        )
        print(report["path"])
        for split, row in report["splits"].items():
            print(f"  {split}: {row['examples']:,} examples")
        left = report["unreadable"]
        for row in left[:SHOWN]:
            print(f"left out: {row['split']} {row['id']}: {row['reason']}", file=sys.stderr)
        if left:
            counts = dict(collections.Counter(row["split"] for row in left))
            print(f"left out: {counts}, all of them in report.json", file=sys.stderr)
        return 3 if left else 0
