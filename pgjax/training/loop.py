"""The loop: step, report, evaluate, save."""

import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pgjax import sharding
from pgjax.config import RunConfig, parse_config
from pgjax.console import Phase, say, table
from pgjax.distributed import doing, exchange
from pgjax.errors import Stopped, UserError
from pgjax.evaluation.contact_sheet import make_sheet
from pgjax.evaluation.evaluators import Result
from pgjax.evaluation.runner import store
from pgjax.evaluation.store import Records
from pgjax.training.plan_text import step_line
from pgjax.training.profile import Profile
from pgjax.training.report import LiveLine, Metrics
from pgjax.training.run_lock import RunLock
from pgjax.training.setup import Run, set_up
from pgjax.training.state import resumable_state
from pgjax.training.stop_requests import SAVE, StopRequests

INPUTS = ("image", "text", "mask_ar", "mask_loss")
PREDICTIONS = "predictions"
SHEET_FILE = "answers.png"
SHEET_IMAGES = 16
MOST_SKIPPED = 20  # updates in a row, after which a smaller loss scale will not help either
WATCHED_IMAGES = 4

Watch = Callable[[Image.Image], object]


def train(
    config: RunConfig | ConfigDict | Mapping[str, Any],
    workdir: pathlib.Path,
    profile: str = "",
    watch: Watch | None = None,
    resume_from: int | None = None,
) -> dict[str, dict[str, float]]:
    """Trains to the end, from where the workdir stands.

    Args:
      config: what a config file gives, or the same as a plain dict; `pgjax.config.RunConfig` has
        its keys.
      workdir: run directory; created if it does not exist.
      profile: steps to trace, such as `10-12`; "" for none.
      watch: called with a picture of some answers after each evaluation that has any.
      resume_from: the step of the checkpoint to go on from; None for the newest whole one.

    Returns:
      The final scores by evaluation.

    Raises:
      UserError: one sentence about what went wrong; the workdir stays resumable.
      Stopped: SIGTERM or SIGHUP; what was done is saved.
    """
    config = parse_config(config)
    lock = RunLock(workdir) if jax.process_index() == 0 else None
    try:
        with StopRequests(config.checkpoint_minutes) as stops:
            run = set_up(config, workdir, lock.holder.token if lock else "", resume_from)
            return _train(run, stops, profile, watch)
    finally:
        if lock:
            lock.release()


def _train(
    run: Run, stops: StopRequests, profile: str, watch: Watch | None
) -> dict[str, dict[str, float]]:
    start, workdir = int(run.state.step), run.workdir
    trace = Profile(profile, workdir / "tb")
    # Scores before the first step are those of the config that they were taken with.
    metrics = Metrics(workdir, -1 if start == 0 and run.changed else start)
    between = _Between(run, stops, start)
    stops.interruptible = False
    try:
        known = exchange("scores", metrics.last_scores())[0]
        last = _evaluate(run, metrics, start, _due_evaluations(run, start), between, watch, known)
        first = last if start == 0 else {}
        if start == run.total_steps:
            say(f"{workdir} is at its last step, {start}.")
        else:
            last = _fit(run, metrics, between, trace, watch)
    finally:
        metrics.close()
        run.checkpoints.close()
    _say_skipped(run)
    _say_scores(workdir, first, last)
    if (name := run.config.sample_sheet) and jax.process_index() == 0:
        path, evaluator = workdir / SHEET_FILE, run.evaluators[name]
        shown = last[name].records[:SHEET_IMAGES]
        make_sheet(evaluator.part.source, shown, main=evaluator.main).save(path)
        say(f"Images with their answers: {path}")
    return {name: result.scores for name, result in last.items()}


@dataclasses.dataclass
class _Between:
    """What is done between two pieces of work that all processes do together."""

    run: Run
    stops: StopRequests
    step: int  # updates done
    position: dict[str, int] = dataclasses.field(default_factory=dict)  # in the data, after them
    saved: int = -1  # the step that was saved last

    def __post_init__(self) -> None:
        self.saved = self.step

    def save(self) -> None:
        """Saves, if this step is not saved yet."""
        if self.saved != self.step:
            state = self.run.state
            self.run.checkpoints.save(
                self.step, state.params, resumable_state(state), self.position
            )
            self.saved = self.step
        self.stops.saved()

    def heed(self, before_save: Callable[[], object] | None = None) -> None:
        """Saves or stops, if that is asked for.

        Args:
          before_save: called before that.

        Raises:
          Stopped: a signal asked for it, and the state is saved.
          UserError: a save has failed.
        """
        self.run.checkpoints.check()
        if not (wish := self.stops.due()):
            return
        if before_save:
            before_save()
        self.save()
        if wish != SAVE:
            self.run.checkpoints.wait()
            raise Stopped(
                f"Stopped by {wish} after step {self.step} of {self.run.total_steps}, which is "
                f"saved in {self.run.workdir}; the same command goes on from there."
            )


def _fit(
    run: Run, metrics: Metrics, between: _Between, trace: Profile, watch: Watch | None
) -> dict[str, Result]:
    config, start, total = run.config, between.step, run.total_steps
    results: dict[str, Result] = {}
    batches = iter(run.loader)
    host, position = next(batches), run.loader.state()
    _say_first_batch(run, host)
    batch = _to_device(run, host)
    with Phase("compiling the training step"):
        step_fn = run.builder.lower(run.state, run.frozen, batch).compile()
    if figures := step_line(run.builder, step_fn, batch["text"].shape[1]):
        say(figures)

    line = LiveLine(start, total)
    pending: list[tuple[int, dict[str, jax.Array]]] = []
    for step in range(start + 1, total + 1):
        trace.before(step)
        run.state, values = step_fn(run.state, run.frozen, batch)
        trace.after(step, values)
        doing(f"step {step} of {total}")
        between.step, between.position = step, position
        pending.append((step, values))
        if step < total:
            # The device works on this step while the next batch is fetched and put there.
            waiting = time.perf_counter()
            host, position = next(batches), run.loader.state()
            line.waited += time.perf_counter() - waiting
            batch = _to_device(run, host)
        due = _due_evaluations(run, step)
        save = step == total or _due(config.checkpoint_every, step)
        if due or save or step % config.log_every == 0:
            _flush(run, metrics, line, pending)
        between.heed(before_save=lambda: _flush(run, metrics, line, pending, whole=False))
        if save:
            between.save()
        if due:
            results.update(_evaluate(run, metrics, step, due, between, watch))
    line.close()
    return results


def _due_evaluations(run: Run, step: int) -> list[str]:
    """The evaluations after a step, or before the first one."""
    if step == 0:
        return list(run.evaluators) if run.config.eval_first else []
    last = step == run.total_steps
    return [n for n, e in run.evaluators.items() if last or _due(e.spec.every, step)]


def _to_device(run: Run, host: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return sharding.to_device(run.context.mesh, {k: host[k] for k in INPUTS})


def _due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0


def _flush(
    run: Run, metrics: Metrics, line: LiveLine, pending: list, *, whole: bool = True
) -> None:
    """Reads the values of the steps since the last flush; the only wait for the device.

    The row of the last of them has all values, or only the loss where it is not `whole`: a save
    at no regular step leaves the same rows as no save.
    """
    if not pending:
        return
    values = jax.device_get([v for _, v in pending])
    for (step, _), row in zip(pending, values, strict=True):
        finite = math.isfinite(row["loss"]) and math.isfinite(row["l2_grads"])
        if row.get("skipped", 0 if finite else MOST_SKIPPED) >= MOST_SKIPPED:
            run.checkpoints.wait()
            raise UserError(
                f"The loss is {row['loss']} and the gradient norm {row['l2_grads']} at step "
                f"{step}; stopped. Last good checkpoint: {run.checkpoints.name_of_latest()}. Try a "
                "lower config.optimizer.lr, or float32 instead of float16."
            )
    # Of an update that the loss scale skipped, what is not finite is not written.
    values = [{k: v for k, v in row.items() if math.isfinite(v)} for row in values]
    step, row = pending[-1][0], {k: float(v) for k, v in values[-1].items()}
    row["lr"] = run.config.optimizer.lr * row.pop("lr_factor")
    rates = line.update(step, row.get("loss", math.nan), run.config.input.batch_size)
    for (s, _), v in zip(pending[:-1], values[:-1], strict=True):
        metrics.write(s, {"loss": float(v["loss"])} if "loss" in v else {})
    if whole:
        metrics.write(step, {**row, **rates})
    elif "loss" in row:
        metrics.write(step, {"loss": row["loss"]})
    pending.clear()


def _evaluate(
    run: Run,
    metrics: Metrics,
    step: int,
    names: list[str],
    between: _Between,
    watch: Watch | None,
    known: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Result]:
    """Runs evaluations; those whose scores are `known` were done before an interruption."""
    results = {}
    for name in names:
        file = run.workdir / PREDICTIONS / f"{name}_{step}.jsonl"
        if known and name in known and file.exists():
            results[name] = Result(known[name], Records(file))
            continue
        doing(f"evaluating {name} at step {step}")
        with Phase(f"evaluating {name} at step {step}"):
            results[name] = result = run.evaluators[name].run(run.params(), between=between.heed)
        # The row comes last: where it is, the evaluation is done.
        store(file, result)
        metrics.write(step, {f"{name}/{k}": v for k, v in result.scores.items()})
        say(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in result.scores.items()))
        some = result.records[:WATCHED_IMAGES]
        if watch and jax.process_index() == 0 and some and "prediction" in some[0]:
            watch(make_sheet(run.evaluators[name].part.source, some))
    return results


def _say_first_batch(run: Run, batch: dict[str, np.ndarray]) -> None:
    """Shows the first example as the model gets it, so that prompt mistakes are seen."""
    if missing := [k for k in INPUTS if k not in batch]:
        raise UserError(
            f"config.input.pp yields {sorted(batch)} without {missing}; end it with "
            "|for_training(…)|keep('image', 'text', 'mask_ar', 'mask_loss')."
        )
    image, text, supervised = batch["image"][0], batch["text"][0], batch["mask_loss"][0] > 0
    res = run.config.model.res
    if image.shape[-3:] != (res, res, 3) or image.dtype != np.float32:
        raise UserError(
            f"config.input.pp yields images of shape {image.shape}, dtype {image.dtype}; "
            f"config.model.res {res} needs float32 ({res}, {res}, 3)."
        )
    show = functools.partial(run.context.tokenizer.decode, stop_at_eos=False)
    target = text[supervised].tolist()
    ended = bool(target) and target[-1] == run.context.tokenizer.eos_id
    say(
        f"First example: image {image.shape} in [{image.min():.2f}, {image.max():.2f}]; "
        f"prompt {show(text[: supervised.argmax()].tolist())!r} → target {show(target)!r}"
        f"{' + eos' if ended else ' WITHOUT eos'}; {supervised.sum()} of {len(text)} tokens "
        "supervised."
    )


def _say_skipped(run: Run) -> None:
    report = run.loader.report()
    for key in ("skipped", "dropped", "truncated"):
        if report[key]:
            say(f"NOTE: {report[key]} training examples were {key}, e.g. {report['examples'][:3]}")


def _say_scores(workdir: pathlib.Path, first: dict[str, Result], last: dict[str, Result]) -> None:
    rows = []
    for name, result in last.items():
        for key, after in result.scores.items():
            before = first[name].scores.get(key) if name in first else None
            before = _first_score(workdir, f"{name}/{key}") if before is None else before
            rows.append((name, key, "" if before is None else f"{before:.4g}", f"{after:.4g}"))
    if rows:
        say(table(("evaluation", "score", "before", "after"), rows))


def _first_score(workdir: pathlib.Path, key: str) -> float | None:
    """A score that an earlier part of this run took before step 1."""
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["step"] == 0 and key in row:
            return row[key]
    return None
