"""`pgjax check-data`."""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pgjax.commands.command import Command
from pgjax.commands.config_flag import ConfigFlag
from pgjax.config import RunConfig, parse_config
from pgjax.errors import UsageError


class CheckData(Command):
    """Looks at the data of a config before anything is trained on it.

    For the training data and every evaluation it says how many examples there are; the sizes of
    their images; the lengths of prompts and targets beside the text length, and how many are cut;
    and it lists lines from which nothing is learned, images that cannot be read, ids that come more
    than once, and words such as <loc1024> or <image> that are no tokens. With --out it also draws
    samples as the model gets them.
    """

    name = "check-data"
    example = "pgjax check-data --config forkme --config.input.data.fname=mine.jsonl --out checked"
    statuses = {3: "examples cannot be read, are too long, repeat an id, or have nothing to learn"}

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._config = ConfigFlag(self, "The config whose data to look at.")
        self._most = self.integer(
            "most", 2000, "Examples to look at of each set, evenly spread; 0: all.", 0
        )
        self._out = self.text("out", None, "Folder for report.json and pictures of samples.")

    def run(self) -> int:
        """Looks at every set and prints what it found."""
        if not self._config.given:
            raise UsageError(f"--config is missing; for instance: {self.example}.")
        config = parse_config(self._config.read())
        from pgjax.data.inspection import check_set, describe
        from pgjax.data.sources import make_source
        from pgjax.loading.model_context import open_tokenizer

        tokenizer = open_tokenizer(config.tokenizer)
        out = pathlib.Path(self._out.value).expanduser() if self._out.value else None
        report = {
            name: check_set(name, make_source(data), pp, tokenizer, self._most.value, out)
            for name, data, pp in sources_of(config)
        }
        for name, found in report.items():
            print("\n".join([f"{name}:", *(f"  {line}" for line in describe(found))]))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / "report.json").write_text(json.dumps(report, indent=1, default=str) + "\n")
            print(f"Pictures and report.json: {out}")
        wrong = ("unreadable", "twice", "unlearned")
        bad = any(found[key]["count"] for found in report.values() for key in wrong)
        return 3 if bad or any(found["stops"] for found in report.values()) else 0


def sources_of(config: RunConfig) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(name, data source, pipeline) of everything that a config reads."""
    spec = config.input
    if spec.data:
        yield "train", spec.data, spec.pp
    for name, part in spec.mixture.items():
        yield f"train/{name}", part.data, part.pp or spec.pp
    for name, one in config.evals.items():
        yield name, one.data, one.pp
