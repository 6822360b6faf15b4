"""Training checkpoints in a run directory, through orbax: asynchronous and atomic."""

import logging
import os
import sys
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from pgjax.errors import UserError

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run: what trains, the optimizer, step, key and data position."""

    def __init__(
        self,
        workdir: os.PathLike | str,
        *,
        keep_last: int = 1,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        """Opens the folder and clears away what an interrupted save left.

        Args:
          workdir: run directory.
          keep_last: how many of the newest stay.
          keep_every: checkpoints at multiples of this step stay too.
          read_only: change nothing, for a run that may be training in another process.

        Raises:
          UserError: the folder cannot be made.
        """
        _speak_once()
        self.folder = epath.Path(os.path.abspath(workdir)) / FOLDER
        try:
            if not read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"Run directory {workdir} cannot be written ({e}).") from None
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None if read_only else keep_last,
                keep_period=keep_every or None,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
                step_prefix="step",
            ),
        )

    def latest(self) -> int | None:
        """The newest whole checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(
        self, step: int, params: dict[str, Any], train: dict[str, Any], data: dict[str, Any]
    ) -> None:
        """Starts saving; the files appear under their final name only when they are whole.

        Args:
          step: optimizer updates done.
          params: flat dict of the trainable parameters, all that `predict` needs.
          train: tree of whatever else the step carries.
          data: JSON-able data position.

        Raises:
          UserError: this or the save before it failed, for instance for want of space.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            train=ocp.args.StandardSave(train),
            data=ocp.args.JsonSave(data),
        )
        self._say_failure(f"The checkpoint of step {step}", self._manager.save, step, args=args)

    def wait(self) -> None:
        """Blocks until the save under way has ended.

        Raises:
          UserError: it failed.
        """
        self._say_failure("A checkpoint", self._manager.wait_until_finished)

    def restore_params(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """Reads the trainable parameters straight to the shardings and dtypes of `abstract`.

        Raises:
          UserError: they do not fit, or cannot be read.
        """
        return self._restore(step, params=ocp.args.StandardRestore(abstract)).params

    def restore(
        self, step: int, params: dict[str, Any], train: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Reads everything that `save` took, given abstract trees.

        Raises:
          UserError: it does not fit, or cannot be read.
        """
        out = self._restore(
            step,
            params=ocp.args.StandardRestore(params),
            train=ocp.args.StandardRestore(train),
            data=ocp.args.JsonRestore(),
        )
        return out.params, out.train, out.data

    def _restore(self, step: int, **args):
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except Exception as e:
            raise UserError(
                f"Checkpoint {self.folder}/step_{step} cannot be read, or does not fit this "
                f"config ({_first_line(e)})."
            ) from e

    def close(self) -> None:
        """Waits for the save under way and closes."""
        self.wait()
        self._manager.close()

    def _say_failure(self, what: str, call, *args, **kwargs) -> None:
        try:
            call(*args, **kwargs)
        except Exception as e:
            last = self.latest()
            kept = "there is none yet" if last is None else f"{self.folder}/step_{last}"
            raise UserError(
                f"{what} could not be saved under {self.folder} ({_first_line(e)}); the last "
                f"good one: {kept}."
            ) from e


def _speak_once() -> None:
    """Silences what orbax and its threads say beside the exception that they raise anyway."""
    for name in ("absl", "asyncio"):  # every file touched; every write after the first failure
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_loop_closed


def _unless_loop_closed(unraisable) -> None:
    """A write that fails after the first one has nobody left to tell."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0][:300]


def abstract_like(tree: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of arrays, for `restore`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
