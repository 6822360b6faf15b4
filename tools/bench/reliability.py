"""What protection costs: its share of a training step, and that of checksums in a save.

    python tools/bench/reliability.py --folder=/tmp/x [--steps=300] [--rounds=7] [--mib=370]

The step is that of the tiny model, of which a fixed cost is the largest share: the time in which
the loop looks for signals, the clock and failed saves, and says what it does, over its whole time.
Saves are measured by the clock and in processor time, until all is on the disk.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import jax
import jax.numpy as jnp

from pgjax import sharding
from pgjax.checkpoints import resume
from pgjax.checkpoints.checksums import write_checksums
from pgjax.checkpoints.resume import Checkpoints
from pgjax.training import loop
from pgjax.training.saver import Saver
from tools.faults.config import get_config

ARRAY = 16  # MiB of one array of the checkpoint


def step_share(folder: pathlib.Path, steps: int) -> tuple[float, float]:
    """Seconds of protection in a step, and seconds of a whole step, the first half left out."""
    shutil.rmtree(folder, ignore_errors=True)
    c = get_config("case=plain")
    c.evals, c.trackers = {}, ()
    c.total_steps, c.log_every, c.checkpoint_every = steps, steps // 2, 0
    spent, moments = 0.0, []

    def timed(function: Callable) -> Callable:
        def call(*args: object, **options: object) -> object:
            nonlocal spent
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent += time.perf_counter() - start

        return call

    with (
        mock.patch.object(Saver, "heed", timed(Saver.heed)),
        mock.patch.object(loop, "doing", timed(loop.doing)),
    ):
        loop.train(
            c,
            folder,
            on_metrics=lambda step, row: moments.append((step, time.perf_counter(), spent)),
        )
    half = next(moment for moment in moments if moment[0] == steps // 2)
    count, seconds, protection = (b - a for a, b in zip(half, moments[-1], strict=True))
    return protection / count, seconds / count


def save_share(
    folder: pathlib.Path, mib: int, rounds: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Medians of the seconds of checksums, and of whole saves."""
    shape = (ARRAY << 18,)
    arrays = {f"w{i}": jax.random.normal(jax.random.key(i), shape) for i in range(mib // ARRAY)}
    params = jax.device_put(arrays, sharding.replicated(sharding.make_mesh()))
    saves, checksums = [], []

    def timed(path: pathlib.Path) -> None:
        start = clock()
        write_checksums(path)
        checksums.append(clock() - start)

    shutil.rmtree(folder, ignore_errors=True)
    checkpoints = Checkpoints(folder)
    with mock.patch.object(resume, "write_checksums", timed):
        for step in range(1, rounds + 2):
            start = clock()
            checkpoints.save(step, params, {"step": jnp.int32(step)}, {})
            checkpoints.wait()
            saves.append(clock() - start)
    checkpoints.close()
    return statistics.median(checksums[1:]), statistics.median(saves[1:])  # the first one warms up


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="is emptied")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=370, help="size of the checkpoint")
    args = parser.parse_args()
    protection, step = step_share(args.folder, args.steps)
    print(
        f"A step: {protection * 1e6:.1f} µs of {step * 1e3:.1f} ms, {protection / step:.3%}.",
        flush=True,
    )
    for clock in (time.perf_counter, time.process_time):
        checksums, save = save_share(args.folder, args.mib, args.rounds, clock)
        print(
            f"A save of {args.mib} MiB, {clock.__name__}: {checksums * 1e3:.0f} ms of "
            f"{save * 1e3:.0f} ms are checksums, {checksums / (save - checksums):.1%} more."
        )
    shutil.rmtree(args.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
