"""Training checkpoints in a run directory, which orbax writes asynchronously and atomically."""

import os
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from pgjax.checkpoints.orbax_messages import QuietSaves
from pgjax.errors import UserError

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run.

    Each holds the parameters that train, the rest of the training state (optimizer state, step and
    random key), and the position in the data.
    """

    def __init__(
        self,
        workdir: os.PathLike | str,
        *,
        keep_last: int = 1,
        keep_every: int | None = None,
        read_only: bool = False,
    ) -> None:
        """Opens the folder, and clears away what an interrupted save has left.

        Args:
          workdir: the run directory.
          keep_last: the number of newest checkpoints to keep.
          keep_every: the interval in steps; checkpoints at its multiples are kept as well.
          read_only: whether to change nothing, because another process may be training this run.

        Raises:
          UserError: the folder cannot be created.
        """
        self._quiet = QuietSaves()
        self.folder = epath.Path(os.path.abspath(workdir)) / FOLDER
        try:
            if not read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"The run directory {workdir} cannot be written ({e}).") from None
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
        """Returns the step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(
        self, step: int, params: dict[str, Any], train: dict[str, Any], data: dict[str, Any]
    ) -> None:
        """Starts a save, which goes on in the background.

        The checkpoint gets its name only when it is complete.

        Args:
          step: the number of optimizer updates done.
          params: the trainable parameters by name; `pgjax predict` reads only these.
          train: the rest of the training state, a tree of arrays.
          data: the position in the data, as values that JSON can hold.

        Raises:
          UserError: this save or the one before it failed, for example because the disk is full.
        """
        self._quiet.start()
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            train=ocp.args.StandardSave(train),
            data=ocp.args.JsonSave(data),
        )
        self._explain_failure(
            f"The checkpoint of step {step}", lambda: self._manager.save(step, args=args)
        )

    def wait(self) -> None:
        """Blocks until the save in the background, if any, has ended.

        Raises:
          UserError: the save failed.
        """
        self._explain_failure("A checkpoint", self._manager.wait_until_finished)
        self._quiet.stop()

    def restore_params(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """Reads the trainable parameters to the devices.

        Args:
          step: the step of the checkpoint.
          abstract: the shapes, dtypes and shardings that they are to have, by name.

        Raises:
          UserError: the checkpoint cannot be read, or does not fit.
        """
        return self._restore(step, params=ocp.args.StandardRestore(abstract))["params"]

    def restore(
        self, step: int, params: dict[str, Any], train: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Reads everything that `save` has written.

        Args:
          step: the step of the checkpoint.
          params: the shapes, dtypes and shardings of the trainable parameters, by name.
          train: those of the rest of the training state.

        Returns:
          (the parameters, the rest of the training state, the position in the data).

        Raises:
          UserError: the checkpoint cannot be read, or does not fit.
        """
        out = self._restore(
            step,
            params=ocp.args.StandardRestore(params),
            train=ocp.args.StandardRestore(train),
            data=ocp.args.JsonRestore(),
        )
        return out["params"], out["train"], out["data"]

    def _restore(self, step: int, **args: ocp.args.CheckpointArgs) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except Exception as e:
            raise UserError(
                f"The checkpoint {self.folder}/step_{step} cannot be read, or does not fit this "
                f"config ({_first_line(e)})."
            ) from e

    def close(self) -> None:
        """Waits for the save in the background, if any, and releases what the manager holds.

        Raises:
          UserError: the save failed.
        """
        self.wait()
        self._manager.close()

    def _explain_failure(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
            return
        except Exception as e:
            reason = _first_line(e)
        self._quiet.stop(failed=True)
        last = self.latest()
        good = "none" if last is None else f"{self.folder}/step_{last}"
        raise UserError(
            f"{what} could not be saved under {self.folder} ({reason}); the newest good checkpoint "
            f"is {good}."
        )


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0][:300]


def abstract_like(tree: Any) -> Any:
    """Returns the shapes, dtypes and shardings of a tree of arrays, as `restore` takes them."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
