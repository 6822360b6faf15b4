"""Checks and measures on a real device, in one command.

    python tools/bench/device.py                         # a 3B model on one H100
    python tools/bench/device.py --only train decode     # some parts
    python tools/bench/device.py --only train --cases lora qlora
    python tools/bench/device.py --size tiny             # a rehearsal on a CPU: 1 to 2 minutes

This needs jax with its device plugin, flax, optax, orbax-checkpoint, numpy, Pillow, sentencepiece,
absl-py, ml-collections and tqdm, but nothing that reads data sets: neither grain nor
tensorflow-datasets nor array_record. torch and transformers are measured as well if they are
installed. Neither weights nor data are read: parameters are random and made on the device. The
script uses the checkout that holds it, which need not be installed.

Parts, in the order in which they run:

  machine       what the device is; how fast it copies and multiplies (always runs)
  checks        the golden folder in float32 and bfloat16; values and gradients of every attention
                that the device has, of quantized products and of the loss, against plain float32
  train         training steps: full, lora, qlora and attention at the small image size, and full
                tuning at both larger ones
  decode        prefill and tokens at several batch sizes, in bfloat16 and in every quantization
  t4            the T4 recipe under a cap of 15 GiB
  transformers  full tuning and answers with transformers on torch, at the same shapes

Each case is a process of its own. At the size 3b, the programs are first compiled into a cache on
disk, several at a time (`--workers`), together with the checks; then each case is measured alone.
After nine minutes (`--minutes`), all remaining cases count as failed. On an H200, the checks took
more than four minutes, steps 1:40, answers 2:10 for three of the four kinds, and the T4 recipe and
transformers 2:00. If a machine is available for less time, run once with `--only checks` and once
with `--skip checks`, with the same `--cache`. While other cases run, the compiler may choose slower
kernels, because it times candidates on the same device, and the checks time attention on a busy
device; `--workers 0` runs each case alone, and takes longer. A case that fails prints one line, and
the next one begins. Failed cases are listed at the end, and the exit status is then 1.

Rows are printed, and written to `--json`, as they are measured (and with `--results` appended to
RESULTS.md). The log beside the JSON file holds the output of all processes, with tracebacks.

Units: s and ms are seconds and milliseconds of wall time, medians after a warm-up; GiB and MiB are
2^30 and 2^20 bytes; GB/s, TB/s and TFLOP/s are powers of ten; "relative" is the norm of a
difference over the norm of the expected value; "of tolerance" is a difference over the tolerance,
so up to 1 passes. Model FLOPs utilisation is the rate of the products that the step needs, without
recomputation, over the data sheet's dense 16-bit rate. Memory bandwidth is the bytes that a token
must read (decoder, embedding, keys and values) over the time of a token, relative to the data sheet
and to the measured copy. The planned peak is XLA's analysis of the same compiled step.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import threading
from concurrent import futures
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # The checkout comes before an installed pgjax.

from common import Row, cpu_cores, installed  # noqa: E402
from device_parts import training_case  # noqa: E402
from device_parts.cases import Case, Outcome, child, one_line, run_case  # noqa: E402
from device_parts.report import Report  # noqa: E402
from device_parts.sizes import SIZES, Size  # noqa: E402

# The most seconds that each part may take.
LIMITS = {"machine": 60, "checks": 240, "train": 260, "decode": 200, "t4": 60, "transformers": 120}
PREPARE_SHARE = 0.45  # the share of all time after which nothing more is compiled beforehand
PARTS = tuple(LIMITS)[1:]
T4_BYTES = 15 * 2**30


def cases(size: Size, golden: pathlib.Path) -> list[Case]:
    """Returns all cases of a size, in order."""
    found = [
        Case("checks", f"golden: {', '.join(groups)}", "golden", size.name,
             {"folder": str(golden), "groups": groups})
        for groups in size.golden
    ]  # fmt: skip
    found.append(Case("checks", "attention", "attention", size.name))
    found += [
        Case("checks", what, "products", size.name, {"what": what})
        for what in ("quantized", "loss")
    ]
    for shape in size.train:
        options, name = training_case.options(shape), training_case.label(shape)
        found.append(Case("train", name, "training_case", size.name, options, compiles=True))
    for kind in ("", *_kinds()):
        name = kind or "as they are"
        options = {"kind": kind}
        found.append(Case("decode", name, "decoding_case", size.name, options, compiles=True))
    options, name = training_case.options(size.t4), training_case.label(size.t4)
    found.append(Case("t4", name, "training_case", size.name, options, compiles=True))
    if installed("torch", "transformers"):
        found += [
            Case("transformers", what, "peer", size.name, {"what": what})
            for what in ("train", "answers")
        ]
    return found


def _kinds() -> tuple[str, ...]:
    from pgjax.models.quantized import KINDS

    return tuple(KINDS)


class Kit:
    """One run of cases, with the time that is left and the facts that were found."""

    def __init__(self, args: argparse.Namespace, report: Report, cache: str):
        """Prepares a run; `run` starts it."""
        self.args, self.report, self.cache = args, report, cache
        self.log = args.json.with_suffix(".log")
        self.log.write_text("")
        self.facts: dict[str, dict[str, Any]] = {}  # facts by label of the case
        self.machine: dict[str, Any] = {}
        self.spent = dict.fromkeys(LIMITS, 0.0)
        self._lock = threading.Lock()

    def run(self, chosen: list[Case]) -> None:
        """Measures the machine, and then all cases."""
        machine = Case("machine", "machine", "machine", self.args.size)
        self.machine = self._measure(machine).facts
        self.report.machine = self.machine.get("machine", "")
        checks = [case for case in chosen if case.part == "checks"]
        rest = [self._completed(case) for case in chosen if case.part != "checks"]
        if self.args.workers:
            self._beside([case for case in rest if case.compiles], checks)
        else:
            for case in checks:
                self._measure(case)
        for case in rest:
            prepared = self.facts.get(case.label, {})
            options = {**case.options, **prepared}
            self._measure(dataclasses.replace(case, options=options))
        self._ratios()

    def _completed(self, case: Case) -> Case:
        """Adds to a case what was measured about the machine."""
        if case.part == "decode" and "bandwidth" in self.machine:
            options = {**case.options, "bandwidth": self.machine["bandwidth"]}
            return dataclasses.replace(case, options=options)
        if case.part == "t4" and "memory" in self.machine:
            share = min(0.95, T4_BYTES / self.machine["memory"])
            return dataclasses.replace(case, memory_fraction=share)
        return case

    def _beside(self, programs: list[Case], checks: list[Case]) -> None:
        """Compiles programs, several at a time, and runs the checks beside them."""
        self.report.say(f"compiling {len(programs)} cases, {self.args.workers} at a time")
        with futures.ThreadPoolExecutor(self.args.workers) as pool:
            jobs = [pool.submit(self._prepare, case) for case in programs]
            jobs += [pool.submit(self._measure, case) for case in checks]
            for job in jobs:
                job.result()

    def _prepare(self, case: Case) -> None:
        """Compiles a case's programs; an error counts only if the measurement fails as well."""
        limit = PREPARE_SHARE * 60 * self.args.minutes - self.report.seconds
        outcome = self._run(dataclasses.replace(case, prepare=True), limit)
        self.report.say(f"{case.label}: {outcome.error or 'compiled'}")

    def _measure(self, case: Case) -> Outcome:
        """Runs a case in the time that is left to its part, and reports a failure."""
        with self._lock:
            limit = LIMITS[case.part] - self.spent[case.part]
        before = self.report.seconds
        outcome = self._run(case, limit)
        with self._lock:
            if not self.args.workers or case.part != "checks":  # Such checks run beside others.
                self.spent[case.part] += self.report.seconds - before
        if outcome.error:
            self.report.fail(case.part, f"{case.name}: {outcome.error}")
        elif not outcome.rows:
            self.report.fail(case.part, f"{case.name}: printed no row")
        return outcome

    def _run(self, case: Case, limit: float) -> Outcome:
        limit = min(limit, 60 * self.args.minutes - self.report.seconds)
        if limit < 5:
            return Outcome(error="left out, because its time is over")
        try:
            outcome = run_case(case, self.report, limit=limit, cache=self.cache, log=self.log)
        except Exception as e:  # An error in this process must not stop the other cases.
            outcome = Outcome(error=one_line(e))
        with self._lock:
            self.facts.setdefault(case.label, {}).update(outcome.facts)
        return outcome

    def _ratios(self) -> None:
        """Reports pgjax's rates relative to those of transformers, if both were measured."""
        size = SIZES[self.args.size]
        ours = [
            self.facts.get(f"train: {training_case.label(shape)}", {}).get("examples_per_s")
            for shape in size.train
            if shape.mode == "full" and shape.res == size.train[0].res
        ]
        ours = max(filter(None, ours), default=None)
        theirs = self.facts.get("transformers: train", {}).get("examples_per_s")
        if ours and theirs:
            row = Row("full tuning, examples/s over transformers'", ours / theirs, "×")
            self.report.row("transformers", row)
        for batch in size.peer_answers:
            key = f"tokens_per_s/{batch}"
            ours = self.facts.get("decode: as they are", {}).get(key)
            theirs = self.facts.get("transformers: answers", {}).get(key)
            if ours and theirs:
                what = f"answers, batch {batch}, tokens/s over transformers'"
                self.report.row("transformers", Row(what, ours / theirs, "×"))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(SIZES), default="3b", help="the model")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="parts to run"
    )
    parser.add_argument(
        "--skip", nargs="+", choices=PARTS, default=[], metavar="PART", help="parts to skip"
    )
    parser.add_argument(
        "--cases", nargs="+", metavar="TEXT", help="run only cases whose name contains one of these"
    )
    parser.add_argument("--list", action="store_true", help="list parts and cases, and run nothing")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="time for everything (default: 9)"
    )
    parser.add_argument(
        "--workers", type=int, default=None,
        help="programs to compile at a time; 0 leaves each to its case (default: by size)",
    )  # fmt: skip
    parser.add_argument("--cache", help="a folder of compiled programs, to use again")
    parser.add_argument(
        "--golden", type=pathlib.Path, default=ROOT / "tests/golden", help="the reference outputs"
    )
    parser.add_argument(
        "--json", type=pathlib.Path, default=pathlib.Path("device.json"), help="the file of results"
    )
    parser.add_argument(
        "--results", action="store_true", help="append results to RESULTS.md as well"
    )
    args = parser.parse_args(argv)
    if args.workers is None:
        args.workers = min(SIZES[args.size].workers, cpu_cores())
    return args


def main(argv: list[str] | None = None) -> int:
    """Runs the chosen cases, and returns the exit status."""
    args = parse(argv)
    chosen = [
        case
        for case in cases(SIZES[args.size], args.golden)
        if case.part in args.only
        and case.part not in args.skip
        and (not args.cases or any(text in case.name for text in args.cases))
    ]
    if args.list:
        for case in chosen:
            print(f"{case.part:<12} {case.name}")
        return 0
    results = pathlib.Path(__file__).parent / "RESULTS.md" if args.results else None
    report = Report(args.json, results)
    if "transformers" in args.only and not installed("torch", "transformers"):
        report.say("transformers: skipped, because torch or transformers is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        Kit(args, report, args.cache or temporary).run(chosen)
    report.say(f"{len(report.rows)} rows in {args.json}, {len(report.failed)} failed")
    for text in report.failed:
        print(f"  failed: {text}", flush=True)
    return int(bool(report.failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        sys.exit(child(sys.argv[2]))
    sys.exit(main())
