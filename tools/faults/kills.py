"""Kills training runs, continues them, and compares what comes out with uninterrupted ones.

    python tools/faults/kills.py --kills=100 --terms=10 --two=20 --seed=0 --folder=/tmp/faults

Runs of each case of `config.py` are killed (`kill -9`) at random and at chosen moments, stopped by
SIGTERM, and run in two processes of which one is killed. In the end, arrays, metrics, evaluations
and predictions must be those of a run that nobody touched, bit for bit; no process and no file may
be left over. Prints a Markdown table, and exits with 1 if anything differs.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tools.faults.compare import differences, left_overs
from tools.faults.config import CASES
from tools.faults.runs import Group, in_fork

CONFIG = pathlib.Path(__file__).with_name("config.py")
LIMIT = 600  # seconds for one part of a run
LOST_LIMIT = 60  # in which a process notices that another was killed
STOPPED = 75


@dataclasses.dataclass
class Tally:
    """What one case came to."""

    case: str
    kills: int = 0
    terms: int = 0
    too_late: int = 0
    slowest_notice: float = 0.0
    moments: dict[str, int] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)

    def row(self) -> str:
        """A row of the table."""
        notice = f"{self.slowest_notice:.0f} s" if self.slowest_notice else ""
        moments = ", ".join(f"{name} {n}" for name, n in sorted(self.moments.items()))
        return (
            f"| {self.case} | {self.kills} | {self.terms} | {moments} | {notice} "
            f"| {len(self.faults)} |"
        )


class Campaign:
    """Kills of one case, over as many runs as they need."""

    def __init__(self, case: str, processes: int, folder: pathlib.Path, rng: random.Random):
        """Does the uninterrupted run."""
        name = case if processes == 1 else f"{case}, {processes} processes"
        self.tally = Tally(name)
        self._folder = folder / name.replace(", ", "_").replace(" ", "_")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._processes, self._rng = processes, rng
        self._flags = [f"--config={CONFIG}:case={case}"]
        self._run = 0
        self.whole = self._folder / "whole"
        start = time.monotonic()
        group = self._start(self.whole)
        if any(group.wait(LIMIT)):
            raise RuntimeError(f"the uninterrupted run of {name} failed:\n{_said(group)}")
        self._seconds = time.monotonic() - start

    def interrupt(self, kills: int, terms: int, most_in_a_run: int) -> None:
        """Does what there is to do, and compares after every run."""
        left = ["kill"] * kills + ["term"] * terms
        self._rng.shuffle(left)
        while left:
            self._run += 1
            workdir = self._folder / f"run{self._run}"
            some, left = left[:most_in_a_run], left[most_in_a_run:]
            for kind in some:
                left += [] if self._part(workdir, kind) else [kind]
                if self.tally.too_late > 10 * (kills + terms):
                    raise RuntimeError(f"{self.tally.case}: interruptions come too late")
            group = self._start(workdir)
            if statuses := [s for s in group.wait(LIMIT) if s]:
                self._fault(workdir, f"the last part ended with {statuses}: {_said(group)[-2000:]}")
                continue
            self._check_orphans(workdir, group)
            for difference in [*self._differences(workdir), *left_overs(workdir)]:
                self._fault(workdir, difference)
            if not self.tally.faults:
                shutil.rmtree(workdir)

    def _part(self, workdir: pathlib.Path, kind: str) -> bool:
        """A part of a run that is interrupted; False if it ended before."""
        moment, name = self._moment(workdir)
        group = self._start(workdir)
        if not group.wait_until(moment, LIMIT):
            self.tally.too_late += 1
            shutil.rmtree(workdir, ignore_errors=True)  # a run that is done has no more to kill
            return False
        if kind == "kill":
            self._kill(workdir, group, name)
            return True
        return self._stop(workdir, group)

    def _kill(self, workdir: pathlib.Path, group: Group, name: str) -> None:
        victim = self._rng.choice(group.processes)
        victim.signal(signal.SIGKILL)
        self.tally.kills += 1
        self.tally.moments[name] = self.tally.moments.get(name, 0) + 1
        start = time.monotonic()
        for p in group.processes:
            try:
                status = p.wait(LOST_LIMIT)
            except TimeoutError as e:
                self._fault(workdir, f"the other process did not end: {e}")
                continue
            if p is not victim and status != 0:
                self.tally.slowest_notice = max(self.tally.slowest_notice, time.monotonic() - start)
                errors = [line for line in p.text().splitlines() if line.startswith("error: ")]
                if status != STOPPED or len(errors) != 1 or "*** Check failure" in p.text():
                    self._fault(workdir, f"status {status}: {p.text()[-3000:]}")
        self._check_orphans(workdir, group)

    def _stop(self, workdir: pathlib.Path, group: Group) -> bool:
        for p in group.processes:
            p.signal(signal.SIGTERM)
        statuses = group.wait(LIMIT)
        self._check_orphans(workdir, group)
        if set(statuses) <= {0, -signal.SIGTERM}:  # at its end, or before it had begun
            self.tally.too_late += 1
            return False
        said = _said(group)
        if set(statuses) != {STOPPED}:
            self._fault(workdir, f"SIGTERM ended with {statuses}: {said[-3000:]}")
            return True
        self.tally.terms += 1
        if found := re.search(r"after step (\d+) of", said):
            step = int(found[1])
            if step and not (workdir / "checkpoints" / f"step_{step}" / "checksums.txt").exists():
                self._fault(workdir, f"stopped after step {step}, which is not saved")
        return True

    def _moment(self, workdir: pathlib.Path) -> tuple[Callable[[str], bool], str]:
        name = self._rng.choice(["random", "random", "step", "saving", "checksums", "evaluating"])
        checkpoints = workdir / "checkpoints"
        end = time.monotonic() + self._rng.uniform(0.0, 1.1 * self._seconds)
        step = self._rng.randrange(2, 25, 2)
        before = {p.name for p in checkpoints.glob("step_*")}

        def saving(text: str) -> bool:
            return any("tmp" in p.name and p.name not in before for p in checkpoints.glob("*"))

        def checksums(text: str) -> bool:
            return any(
                p.name not in before and "tmp" not in p.name for p in checkpoints.glob("step_*")
            )

        moments = {
            "random": lambda text: time.monotonic() > end,
            "step": lambda text: f"step {step}/" in text,
            "saving": saving,
            "checksums": checksums,
            "evaluating": lambda text: "[evaluating" in text,
        }
        return moments[name], name

    def _start(self, workdir: pathlib.Path) -> Group:
        flags = [*self._flags, f"--workdir={workdir}"]
        return Group(flags, self._processes, self._folder / f"{workdir.name}.log")

    def _differences(self, workdir: pathlib.Path) -> list[str]:
        return in_fork(lambda: differences(self.whole, workdir))

    def _check_orphans(self, workdir: pathlib.Path, group: Group) -> None:
        if found := group.orphans():
            self._fault(workdir, f"processes left over: {found}")

    def _fault(self, workdir: pathlib.Path, what: str) -> None:
        self.tally.faults.append(what)
        print(f"FAULT in {workdir}: {what}", flush=True)


def _said(group: Group) -> str:
    return "\n".join(p.text() for p in group.processes)


def main() -> None:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=80, help="in runs of one process")
    parser.add_argument("--terms", type=int, default=10, help="SIGTERMs in runs of one process")
    parser.add_argument("--two", type=int, default=20, help="kills in runs of two processes")
    parser.add_argument("--two_terms", type=int, default=4, help="SIGTERMs in those")
    parser.add_argument("--in_a_run", type=int, default=4, help="interruptions of one run at most")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--two_cases", default="plain,evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="emptied by cases")
    parser.add_argument("--out", type=pathlib.Path, help="file for the table")
    args = parser.parse_args()
    plan = []
    for processes, cases, kills, terms in (
        (1, args.cases, args.kills, args.terms),
        (2, args.two_cases, args.two, args.two_terms),
    ):
        names = list(filter(None, cases.split(",")))
        for i, case in enumerate(names):
            share = [n * (i + 1) // len(names) - n * i // len(names) for n in (kills, terms)]
            plan.append((case, processes, *share))
    tallies = []
    for case, processes, kills, terms in plan:
        if kills + terms:
            rng = random.Random(f"{args.seed} {case} {processes}")
            campaign = Campaign(case, processes, args.folder, rng)
            campaign.interrupt(kills, terms, args.in_a_run)
            tallies.append(campaign.tally)
            print(campaign.tally.row(), flush=True)
    lines = [
        "| case | kills | SIGTERM | moments | slowest notice of a loss | faults |",
        "|---|---|---|---|---|---|",
        *(tally.row() for tally in tallies),
        f"| all | {sum(t.kills for t in tallies)} | {sum(t.terms for t in tallies)} | | "
        f"| {sum(len(t.faults) for t in tallies)} |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)
        args.out.with_suffix(".json").write_text(
            json.dumps([dataclasses.asdict(t) for t in tallies], indent=1) + "\n"
        )
    sys.exit(any(t.faults for t in tallies))


if __name__ == "__main__":
    main()
