"""The training loop, which takes steps, logs their metrics, evaluates and saves checkpoints."""

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pgjax import sharding
from pgjax.checkpoints.resume import abstract_like
from pgjax.config import RunConfig, parse_config
from pgjax.console import Phase, say, table
from pgjax.distributed import doing, exchange
from pgjax.errors import UserError
from pgjax.evaluation.contact_sheet import draw_records
from pgjax.evaluation.evaluators import Result
from pgjax.evaluation.runner import write_predictions
from pgjax.evaluation.shown_record import shown_record
from pgjax.evaluation.store import Record, Records
from pgjax.loading.best_checkpoint import BEST, BEST_STEP, read_scores, scores_at
from pgjax.training.device_use import DeviceUse
from pgjax.training.judge import Judge
from pgjax.training.live_line import LiveLine
from pgjax.training.metrics_writer import MetricsWriter, OnMetrics
from pgjax.training.plan_text import step_line
from pgjax.training.profile import Profile
from pgjax.training.run_lock import RunLock
from pgjax.training.saver import Saver
from pgjax.training.setup import TrainingRun, set_up
from pgjax.training.step import StepMetrics
from pgjax.training.stop_requests import StopRequests
from pgjax.training.trackers import Answers

INPUTS = ("image", "text", "mask_ar", "mask_loss")
PREDICTIONS = "predictions"
SHEET_FILE = "answers.png"
SHEET_IMAGES = 16
MOST_SKIPPED = 20  # updates skipped in a row after which halving the loss scale further is futile
WATCHED_IMAGES = 4  # on the picture of answers that an evaluation shows
WATCHED_ANSWERS = 32  # in its table

Watch = Callable[[Image.Image], object]
_Pending = list[tuple[int, StepMetrics]]  # numbers of steps with their metrics on the device


def train(
    config: RunConfig | ConfigDict | Mapping[str, Any],
    workdir: pathlib.Path,
    profile: str = "",
    watch: Watch | None = None,
    resume_from: int | None = None,
    on_metrics: OnMetrics | None = None,
) -> dict[str, dict[str, float]]:
    """Trains to the last step, from the newest checkpoint in the run directory if there is one.

    Args:
      config: the config that a config file returns, or a plain dict with the keys of
        `pgjax.config.RunConfig`.
      workdir: the run directory, which is created if it does not exist.
      profile: the steps to trace, such as `10-12`; "" traces none.
      watch: called with a picture of some answers after each evaluation that decodes answers.
      resume_from: the step of the checkpoint to continue from; None for the newest that is whole.
      on_metrics: called with a step and its metrics whenever some are written.

    Returns:
      The final scores by the name of the evaluation.

    Raises:
      UserError: the config does not fit together or into memory, the data cannot be used, or the
        loss is no longer finite. The run can be resumed from its last checkpoint.
      Stopped: SIGTERM or SIGHUP came; what was done is saved.
    """
    config = parse_config(config)
    lock = RunLock(workdir) if jax.process_index() == 0 else None
    try:
        with StopRequests(config.checkpoint_minutes) as stops:
            run = set_up(config, workdir, lock.holder.token if lock else "", resume_from)
            return _train(run, stops, profile, watch, on_metrics)
    finally:
        if lock:
            lock.release()


def _train(
    run: TrainingRun,
    stops: StopRequests,
    profile: str,
    watch: Watch | None,
    on_metrics: OnMetrics | None,
) -> dict[str, dict[str, float]]:
    start, workdir = int(run.state.step), run.workdir
    trace = Profile(profile, workdir / "tb")
    # Scores from before the first step are those of the config that they were taken with.
    last_step = -1 if start == 0 and run.changed else start
    metrics = MetricsWriter(workdir, last_step, run.config.trackers)
    metrics.on_write = on_metrics
    saver = Saver(run, stops, start)
    stops.interruptible = False
    finished = False
    try:
        known = exchange("scores", scores_at(workdir, start))[0]
        judge = Judge(run, start)
        last = _evaluate(run, metrics, start, _due_evaluations(run, start), saver, watch, known)
        first = last if start == 0 else {}
        judge.add(start, last)
        run.checkpoints.keep(judge.best)
        if start and (told := judge.told()):
            say(f"The best so far: {told}.")
        if start == run.total_steps:
            say(f"{workdir} is already at its last step, {start}.")
        elif why := judge.verdict():
            last |= _end_early(run, metrics, saver, watch, last, why, known)
        else:
            last = _fit(run, metrics, saver, trace, watch, judge)
        best = _evaluate_best(run, metrics, saver, judge, last)
        finished = True
    finally:
        metrics.close(finished)
        run.checkpoints.close()
    _say_skipped(run)
    _say_scores(workdir, first, last, best)
    if told := judge.told():
        say(f"The best: {told}; --step=best of pgjax predict, evaluate and convert takes it.")
    if (name := run.config.sample_sheet) and jax.process_index() == 0:
        path = workdir / SHEET_FILE
        _sheet(run, name, last[name].records[:SHEET_IMAGES]).save(path)
        say(f"Pictures of images with their answers are in {path}.")
    return {name: result.scores for name, result in last.items()}


def _fit(
    run: TrainingRun,
    metrics: MetricsWriter,
    saver: Saver,
    trace: Profile,
    watch: Watch | None,
    judge: Judge,
) -> dict[str, Result]:
    """Takes the steps that are left; returns the last result of each evaluation."""
    config, start, total = run.config, saver.step, run.total_steps
    results: dict[str, Result] = {}
    batches = iter(run.loader)
    host, position = next(batches), run.loader.state()
    _say_first_batch(run, host)
    batch, told = _to_device(run, host, start + 1)
    step_fn = _compile_step(run, batch)

    # Drawing answers takes most of a rewarded step, so that its MFU would say nothing.
    line = LiveLine(start, total, None if run.rewarded else DeviceUse(run.builder, host))
    pending: _Pending = []
    for step in range(start + 1, total + 1):
        trace.before(step)
        run.state, values = step_fn(run.state, run.frozen, batch)
        trace.after(step, values)
        doing(f"step {step} of {total}")
        saver.step, saver.position = step, position
        pending.append((step, {**values, **told}))
        if step < total:
            # The next batch is fetched and put on the device while the device computes this step.
            waiting = time.perf_counter()
            host, position = next(batches), run.loader.state()
            line.waited += time.perf_counter() - waiting
            batch, told = _to_device(run, host, step + 1)
        due = _due_evaluations(run, step)
        save = step == total or _due(config.checkpoint_every, step)
        if due or save or step % config.log_every == 0:
            _flush(run, metrics, line, pending)
        saver.heed(lambda: _flush(run, metrics, line, pending, whole=False))
        if save:
            saver.save()
        if due:
            found = _evaluate(run, metrics, step, due, saver, watch)
            results |= found
            if judge.add(step, found):
                run.checkpoints.keep(step)
                saver.save()
            if step < total and (why := judge.verdict()):
                results |= _end_early(run, metrics, saver, watch, found, why)
                break
    line.close()
    return results


def _end_early(
    run: TrainingRun,
    metrics: MetricsWriter,
    saver: Saver,
    watch: Watch | None,
    done: Mapping[str, Result],
    why: str,
    known: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Result]:
    """Makes the step that has just been evaluated the last one, with all that belongs to it."""
    say(f"The run ends early at step {saver.step} of {run.total_steps}: {why}.")
    saver.save()
    left = [name for name in run.evaluators if name not in done]
    return _evaluate(run, metrics, saver.step, left, saver, watch, known)


def _evaluate_best(
    run: TrainingRun,
    metrics: MetricsWriter,
    saver: Saver,
    judge: Judge,
    last: Mapping[str, Result],
) -> dict[str, Result]:
    """Runs those evaluations that the best step lacks, with its parameters instead of the last."""
    if (best := judge.best) is None:
        return {}
    if best == saver.step:
        return dict(last)
    known = exchange("scores of the best", scores_at(run.workdir, best))[0]
    if not all(_stored(run, name, best, known) for name in run.evaluators):
        run.checkpoints.wait()
        abstract = abstract_like(run.state.params)
        run.state = dataclasses.replace(run.state, params={}, opt_state=())  # leave the memory
        with Phase(f"restoring the best checkpoint, step_{best}"):
            params = run.checkpoints.restore_params(best, abstract)
        run.state = dataclasses.replace(run.state, params=params)
    return _evaluate(run, metrics, best, list(run.evaluators), saver, None, known)


def _compile_step(run: TrainingRun, batch: dict[str, jax.Array]) -> jax.stages.Compiled:
    with Phase("compiling the training step"):
        step_fn = run.builder.lower(run.state, run.frozen, batch).compile()
    if line := step_line(run.builder, step_fn, batch["text"].shape[1]):
        say(line)
    return step_fn


def _to_device(
    run: TrainingRun, host: dict[str, np.ndarray], step: int
) -> tuple[dict[str, jax.Array], StepMetrics]:
    """The batch of a step on the devices, and what is reported about it."""
    if run.rewarded:
        return run.rewarded(run.state.params, run.frozen, host, step)
    return sharding.to_device(run.context.mesh, {k: host[k] for k in INPUTS}), {}


def _due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0


def _due_evaluations(run: TrainingRun, step: int) -> list[str]:
    """Returns the names of the evaluations after a step, or before the first one."""
    if step == 0:
        return list(run.evaluators) if run.config.eval_first else []
    last = step == run.total_steps
    return [n for n, e in run.evaluators.items() if last or _due(e.spec.every, step)]


def _flush(
    run: TrainingRun,
    metrics: MetricsWriter,
    line: LiveLine,
    pending: _Pending,
    *,
    whole: bool = True,
) -> None:
    """Writes the metrics of the steps since the last flush.

    Only here does the loop wait for the device. The last row has only its curves where it is not
    `whole`, so that a save outside the intervals of the config leaves no other rows than none.
    """
    if not pending:
        return
    steps = [step for step, _ in pending]
    fetched = jax.device_get([values for _, values in pending])
    for step, row in zip(steps, fetched, strict=True):
        _check_finite(run, step, row)
    # An update that the loss scale skipped has values that are not finite; they are left out.
    rows = [{k: float(v) for k, v in row.items() if math.isfinite(v)} for row in fetched]
    row = rows[-1]
    row["lr"] = run.config.optimizer.lr * row.pop("lr_factor")
    rates = line.update(steps[-1], row.get("loss", math.nan), run.config.input.batch_size)
    for step, earlier in zip(steps[:-1], rows[:-1], strict=True):
        metrics.write(step, _curves(earlier))
    metrics.write(steps[-1], {**row, **rates} if whole else _curves(row))
    pending.clear()


def _curves(row: Mapping[str, float]) -> dict[str, float]:
    return {k: row[k] for k in ("loss", "reward", "kl") if k in row}


def _check_finite(run: TrainingRun, step: int, row: Mapping[str, np.ndarray]) -> None:
    """Checks a step's loss and gradient norm; a loss scale may skip some updates in a row.

    Raises:
      UserError: they are not finite, or too many updates were skipped.
    """
    finite = math.isfinite(row["loss"]) and math.isfinite(row["l2_grads"])
    if row.get("skipped", 0 if finite else MOST_SKIPPED) < MOST_SKIPPED:
        return
    run.checkpoints.wait()
    raise UserError(
        f"Training stopped at step {step}, because the loss is {row['loss']} and the gradient norm "
        f"is {row['l2_grads']}. Last good checkpoint: {run.checkpoints.name_of_latest()}. Try a "
        "lower config.optimizer.lr, or float32 instead of float16."
    )


def _evaluate(
    run: TrainingRun,
    metrics: MetricsWriter,
    step: int,
    names: list[str],
    saver: Saver,
    watch: Watch | None,
    known: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Result]:
    """Runs the named evaluations, and writes their scores and predictions.

    Those whose scores are `known` were finished before an interruption, and are not repeated. Where
    `step` is not that of the run but the best, scores stand under `best/` at the step of the run.
    """
    results = {}
    for name in names:
        if stored := _stored(run, name, step, known or {}):
            results[name] = stored
            continue
        doing(f"evaluating {name} at step {step}")
        with Phase(f"evaluating {name} at step {step}"):
            results[name] = result = run.evaluators[name].run(run.params(), between=saver.heed)
        write_predictions(_predictions_file(run, name, step), result)
        if step == saver.step and (answers := _answers(run, name, result.records)):
            metrics.show(step, answers)
            if watch:
                watch(answers.picture)
        # The row comes last: an evaluation that has one is finished.
        row = {f"{name}/{k}": v for k, v in result.scores.items()}
        if step != saver.step:
            row = {BEST_STEP: step, **{f"{BEST}/{k}": v for k, v in row.items()}}
        metrics.write(saver.step, row)
        say(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in result.scores.items()))
    return results


def _stored(
    run: TrainingRun, name: str, step: int, known: Mapping[str, dict[str, float]]
) -> Result | None:
    """An evaluation of a step that is finished already, with its scores; None otherwise."""
    file = _predictions_file(run, name, step)
    return Result(known[name], Records(file)) if name in known and file.exists() else None


def _predictions_file(run: TrainingRun, name: str, step: int) -> pathlib.Path:
    return run.workdir / PREDICTIONS / f"{name}_{step}.jsonl"


def _answers(run: TrainingRun, name: str, records: Sequence[Record]) -> Answers | None:
    """Some answers to show, in the first process; None where the evaluation makes none."""
    some, main = records[:WATCHED_ANSWERS], run.evaluators[name].main
    if jax.process_index() or not some or "prediction" not in some[0]:
        return None
    rows = []
    for shown in (shown_record(record, main) for record in some):
        score = "" if shown.score is None else f"{shown.score:.4g}"
        rows.append((shown.prompt, shown.answer or "", shown.expected, score))
    picture = _sheet(run, name, records[:WATCHED_IMAGES])
    return Answers(name, picture, ("prompt", "answer", "expected", main.key), rows)


def _sheet(run: TrainingRun, name: str, records: Sequence[Record]) -> Image.Image:
    """Draws some records of an evaluation."""
    evaluator = run.evaluators[name]
    return draw_records(evaluator.part.source, records, main=evaluator.main)


def _say_first_batch(run: TrainingRun, batch: dict[str, np.ndarray]) -> None:
    """Prints the first example as the model sees it, so that mistakes in prompts are noticed.

    Raises:
      UserError: the pipeline's output is not what the training step takes.
    """
    if missing := [k for k in INPUTS if k not in batch]:
        raise UserError(
            f"config.input.pp yields {sorted(batch)}, but training needs {missing} as well; end it "
            "with |for_training(…)|keep('image', 'text', 'mask_ar', 'mask_loss')."
        )
    image, text, supervised = batch["image"][0], batch["text"][0], batch["mask_loss"][0] > 0
    res = run.config.model.res
    if image.shape[-3:] != (res, res, 3) or image.dtype != np.float32:
        raise UserError(
            f"config.input.pp yields {image.dtype} images of shape {image.shape}, but with "
            f"config.model.res {res} the model takes float32 images of shape ({res}, {res}, 3)."
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


def _say_skipped(run: TrainingRun) -> None:
    report = run.loader.report()
    for key in ("skipped", "dropped", "truncated"):
        if report[key]:
            some = report["examples"][:3]
            say(f"NOTE: {report[key]} training examples were {key}, such as {some}.")


def _say_scores(
    workdir: pathlib.Path,
    first: Mapping[str, Result],
    last: Mapping[str, Result],
    best: Mapping[str, Result],
) -> None:
    """Prints the scores after training, beside those before it and of the best where known."""
    columns = {"before": [], "after": [], BEST: []}
    names = []
    for name, result in last.items():
        for key, after in result.scores.items():
            names.append((name, key))
            before = first[name].scores.get(key) if name in first else None
            if before is None:  # the run may have logged it before it was resumed
                before = read_scores(workdir, f"{name}/{key}").get(0)
            columns["before"].append(before)
            columns["after"].append(after)
            columns[BEST].append(best[name].scores.get(key) if name in best else None)
    known = {
        title: column for title, column in columns.items() if any(x is not None for x in column)
    }
    rows = [
        (*name, *("" if column[i] is None else f"{column[i]:.4g}" for column in known.values()))
        for i, name in enumerate(names)
    ]
    if rows:
        say(table(("evaluation", "score", *known), rows))
