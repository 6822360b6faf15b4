"""Where a run goes on: the newest checkpoint that is whole, or the one that was asked for."""

from typing import Any

import jax

from pgjax.checkpoints.resume import Checkpoints, abstract_like
from pgjax.console import Phase, say
from pgjax.distributed import exchange
from pgjax.errors import UserError
from pgjax.training.state import TrainState, resumable_state

Resumed = tuple[TrainState, dict[str, Any]]


class _DamagedError(Exception):
    """A checkpoint that is not what was saved."""


def resume(
    checkpoints: Checkpoints, state: TrainState, changed: str, resume_from: int | None
) -> Resumed | None:
    """Restores a checkpoint of the run; one that is damaged is set aside for the one before it.

    Args:
      checkpoints: of the run.
      state: at step 0, for the names, shapes and shardings of everything.
      changed: how the config differs from the one that the run was started with, "" if it does
        not.
      resume_from: the step to go on from; None for the newest whole checkpoint.

    Returns:
      (state, position in the data); None where the run has saved nothing yet.

    Raises:
      UserError: none of the checkpoints can be restored, or they do not fit the config.
    """
    steps = exchange("checkpoints", checkpoints.steps())[0]
    if resume_from is not None and resume_from not in steps:
        raise UserError(
            f"--resume_from is {resume_from}, but {checkpoints.folder} has checkpoints of the "
            f"steps {sorted(steps)}."
        )
    damaged: dict[int, str] = {}
    for step in steps if resume_from is None else [resume_from]:
        try:
            with Phase(f"restoring {checkpoints.folder}/step_{step}"):
                found = _restore(checkpoints, step, state, changed)
        except _DamagedError as e:
            damaged[step] = str(e)
            continue
        _set_aside(checkpoints, [newer for newer in steps if newer > step], damaged)
        return found
    if damaged:
        told = "; ".join(f"step_{step}: {damage}" for step, damage in damaged.items())
        raise UserError(
            f"No checkpoint under {checkpoints.folder} can be restored ({told}); bring one back, "
            "name another with --resume_from, or take another --workdir to start anew."
        )
    return None


def _restore(checkpoints: Checkpoints, step: int, state: TrainState, changed: str) -> Resumed:
    share = (jax.process_index(), jax.process_count())
    found = exchange(f"damage of step {step}", checkpoints.damage(step, share=share))
    if damage := "; ".join(filter(None, found)):
        raise _DamagedError(damage)
    if not checkpoints.verifiable(step):
        say(
            f"NOTE: {checkpoints.folder}/step_{step} has no checksums (the run was killed as it "
            "wrote them, or pgjax was older); it is restored as it is."
        )
    try:
        mismatch = checkpoints.mismatch(step, state.params, resumable_state(state))
    except UserError as e:
        raise _DamagedError(str(e)) from None
    if mismatch:
        why = f"since the run was started, {changed}" if changed else "no config key differs"
        raise UserError(
            f"The checkpoint {checkpoints.folder}/step_{step} does not fit this config: {mismatch} "
            f"({why}); go on with the config that the run had, or take another --workdir."
        )
    try:
        params, train, data = checkpoints.restore(
            step, abstract_like(state.params), abstract_like(resumable_state(state))
        )
    except UserError as e:
        if jax.process_count() > 1:
            raise  # the others may have read it
        raise _DamagedError(str(e)) from None
    if not isinstance(data, dict) or not isinstance(data.get("examples"), int):
        raise _DamagedError(f"its position in the data is {data!r}")
    return TrainState(params, **train), data


def _set_aside(checkpoints: Checkpoints, newer: list[int], damaged: dict[int, str]) -> None:
    """Moves newer checkpoints out of the way of those that the run is to save."""
    if not newer:
        return
    if jax.process_index() == 0:
        for step in newer:
            new = checkpoints.set_aside(step, "damaged" if step in damaged else "unused")
            why = f"is damaged ({damaged[step]})" if step in damaged else "is not gone on from"
            say(f"NOTE: checkpoint step_{step} {why}; it is now {new}, to be deleted by you.")
    exchange("set aside", newer)
    checkpoints.reload()
