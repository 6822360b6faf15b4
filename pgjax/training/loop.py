"""The loop: step, report, evaluate, save."""

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
from pgjax.config import RunConfig
from pgjax.console import Phase, say, table
from pgjax.errors import UserError
from pgjax.evaluation.contact_sheet import make_sheet
from pgjax.evaluation.evaluators import Result
from pgjax.evaluation.runner import store
from pgjax.training.plan_text import step_line
from pgjax.training.profile import Profile
from pgjax.training.report import LiveLine, Metrics
from pgjax.training.setup import Run, resumable_state, set_up

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
) -> dict[str, dict[str, float]]:
    """Trains to the end, from where the workdir stands.

    Args:
      config: what a config file gives, or the same as a plain dict; `pgjax.config.RunConfig` has
        its keys.
      workdir: run directory; created if it does not exist.
      profile: steps to trace, such as `10-12`; "" for none.
      watch: called with a picture of some answers after each evaluation that has any.

    Returns:
      The final scores by evaluation.

    Raises:
      UserError: one sentence about what went wrong; the workdir stays resumable.
    """
    trace = Profile(profile, workdir / "tb")
    run = set_up(config, workdir)
    start = int(run.state.step)
    metrics = Metrics(workdir, start)
    first: dict[str, Result] = {}
    try:
        if run.config.eval_first and start == 0:
            first = _evaluate(run, metrics, 0, list(run.evaluators), watch)
        last = _fit(run, metrics, start, trace, watch)
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


def _fit(
    run: Run, metrics: Metrics, start: int, trace: Profile, watch: Watch | None
) -> dict[str, Result]:
    config, total = run.config, run.total_steps
    results: dict[str, Result] = {}
    if start == total:
        say(f"{run.workdir} is at its last step, {total}.")
        return _evaluate(run, metrics, total, list(run.evaluators), watch)
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
    state = run.state
    for step in range(start + 1, total + 1):
        trace.before(step)
        state, values = step_fn(state, run.frozen, batch)
        trace.after(step, values)
        run.state = state
        done = position
        pending.append((step, values))
        if step < total:
            # The device works on this step while the next batch is fetched and put there.
            waiting = time.perf_counter()
            host, position = next(batches), run.loader.state()
            line.waited += time.perf_counter() - waiting
            batch = _to_device(run, host)
        last = step == total
        due = [n for n, e in run.evaluators.items() if last or _due(e.spec.every, step)]
        save = last or _due(config.checkpoint_every, step)
        if due or save or step % config.log_every == 0:
            _flush(run, metrics, line, pending)
        if save:
            run.checkpoints.save(step, state.params, resumable_state(state), done)
        if due:
            results.update(_evaluate(run, metrics, step, due, watch))
    line.close()
    return results


def _to_device(run: Run, host: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return sharding.to_device(run.context.mesh, {k: host[k] for k in INPUTS})


def _due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0


def _flush(run: Run, metrics: Metrics, line: LiveLine, pending: list) -> None:
    """Reads the values of the steps since the last flush; the only wait for the device."""
    values = jax.device_get([v for _, v in pending])
    for (step, _), row in zip(pending, values, strict=True):
        finite = math.isfinite(row["loss"]) and math.isfinite(row["l2_grads"])
        if row.get("skipped", 0 if finite else MOST_SKIPPED) >= MOST_SKIPPED:
            run.checkpoints.wait()
            good = run.checkpoints.latest()
            where = "there is none" if good is None else f"{run.checkpoints.folder}/step_{good}"
            raise UserError(
                f"The loss is {row['loss']} and the gradient norm {row['l2_grads']} at step "
                f"{step}; stopped. Last good checkpoint: {where}. Try a lower "
                "config.optimizer.lr, or float32 instead of float16."
            )
    # Of an update that the loss scale skipped, what is not finite is not written.
    values = [{k: v for k, v in row.items() if math.isfinite(v)} for row in values]
    step, row = pending[-1][0], {k: float(v) for k, v in values[-1].items()}
    row["lr"] = run.config.optimizer.lr * row.pop("lr_factor")
    rates = line.update(step, row.get("loss", math.nan), run.config.input.batch_size)
    for (s, _), v in zip(pending[:-1], values[:-1], strict=True):
        metrics.write(s, {"loss": float(v["loss"])} if "loss" in v else {})
    metrics.write(step, {**row, **rates})
    pending.clear()


def _evaluate(
    run: Run, metrics: Metrics, step: int, names: list[str], watch: Watch | None
) -> dict[str, Result]:
    results = {}
    for name in names:
        with Phase(f"evaluating {name} at step {step}"):
            results[name] = result = run.evaluators[name].run(run.params())
        metrics.write(step, {f"{name}/{k}": v for k, v in result.scores.items()})
        say(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in result.scores.items()))
        store(run.workdir / PREDICTIONS / f"{name}_{step}.jsonl", result)
        some = result.records[:WATCHED_IMAGES]
        if watch and jax.process_index() == 0 and some and "prediction" in some[0]:
            evaluator = run.evaluators[name]
            watch(make_sheet(evaluator.part.source, some, main=evaluator.main))
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
