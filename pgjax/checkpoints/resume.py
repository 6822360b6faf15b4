"""Training checkpoints in a run directory, which orbax writes asynchronously and atomically.

The files of a run:

    checkpoints/step_N/params, train, data   what orbax writes
    checkpoints/step_N/checksums.txt         what it is verified by, see `checksums`
    checkpoints/damaged_step_N               a checkpoint that was found damaged
    checkpoints/unused_step_N                one that `--resume_from` went back behind
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp

from pgjax.checkpoints.checksums import find_damage, has_checksums, write_checksums
from pgjax.checkpoints.orbax_messages import QuietSaves
from pgjax.errors import UserError, refusal

FOLDER = "checkpoints"

_NAME = re.compile(r"step_(\d+)")


@dataclasses.dataclass
class _Kept:
    """Which checkpoints a save leaves, in the form that orbax asks for."""

    last: int
    every: int
    best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        newest = sorted(steps)[-self.last :]
        return [
            step in newest or step == self.best or bool(self.every and step % self.every == 0)
            for step in steps
        ]


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
        keep_every: int = 0,
        read_only: bool = False,
    ) -> None:
        """Opens the folder, and clears away what an interrupted save has left.

        Args:
          workdir: the run directory.
          keep_last: the number of newest checkpoints to keep.
          keep_every: the interval in steps; checkpoints at its multiples are kept as well; 0 for
            none.
          read_only: whether to change nothing, because another process may be training this run.

        Raises:
          UserError: the folder cannot be created.
        """
        self._quiet = QuietSaves()
        self._kept = _Kept(keep_last, keep_every)
        self.folder = pathlib.Path(workdir).absolute() / FOLDER
        self._saving: threading.Thread | None = None
        self._failed: tuple[str, Exception] | None = None
        try:
            if not read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"The run directory {workdir} cannot be written ({e}).") from None
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._kept,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
                step_prefix="step",
            ),
        )

    def keep(self, step: int | None) -> None:
        """Keeps a checkpoint as well from the next save on, instead of the one named before."""
        self._kept.best = step

    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints on the disk, the newest first."""
        names = (path.name for path in self.folder.glob("step_*"))
        return sorted((int(m[1]) for m in map(_NAME.fullmatch, names) if m), reverse=True)

    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return next(iter(self.steps()), None)

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
        self.wait()
        self._quiet.start()
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            train=ocp.args.StandardSave(train),
            data=ocp.args.JsonSave(data),
        )
        what = f"The checkpoint of step {step}"
        try:
            if not self._manager.save(step, args=args):
                raise UserError(f"orbax saves none after that of step {self.latest()}")
        except Exception as e:
            self._failed = (what, e)
            self.wait()
        self._saving = threading.Thread(target=self._finish, args=(step, what), daemon=True)
        self._saving.start()

    def _finish(self, step: int, what: str) -> None:
        """Waits for a save, and adds the checksums of what it has written."""
        try:
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                write_checksums(self._path(step))
        except Exception as e:
            self._failed = (what, e)

    def check(self) -> None:
        """Returns at once, unless a save in the background has failed.

        Raises:
          UserError: it has.
        """
        if self._failed:
            self.wait()

    def wait(self) -> None:
        """Blocks until the save in the background, if any, has ended.

        Raises:
          UserError: the save failed.
        """
        if self._saving:
            self._saving.join()  # which ends: orbax gives up a save after ten minutes
            self._saving = None
        self._quiet.stop(failed=self._failed is not None)
        if not self._failed:
            return
        (what, e), self._failed = self._failed, None
        raise UserError(
            f"{what} could not be saved under {self.folder} ({refusal(e) or _first_line(e)}); the "
            f"newest good checkpoint is {self.name_of_latest()}."
        ) from e

    def name_of_latest(self) -> str:
        """Returns the path of the newest complete checkpoint, or "none", for messages."""
        last = self.latest()
        return "none" if last is None else str(self._path(last))

    def damage(
        self, step: int, items: Iterable[str] | None = None, share: tuple[int, int] = (0, 1)
    ) -> str:
        """Returns what of a checkpoint is not what was saved, or ""; see `find_damage`."""
        return find_damage(self._path(step), items, share=share)

    def verifiable(self, step: int) -> bool:
        """Returns whether a checkpoint has checksums; one whose run was killed then has none."""
        return has_checksums(self._path(step))

    def mismatch(self, step: int, params: dict[str, Any], train: dict[str, Any]) -> str:
        """Returns how the arrays of a checkpoint differ from those wanted in name or shape, or "".

        Args:
          step: the step of the checkpoint.
          params: the trainable parameters by name, arrays or their shapes.
          train: the rest of the training state.

        Raises:
          UserError: the checkpoint's list of arrays cannot be read.
        """
        saved, wanted = {}, {}
        for item, tree in (("params", params), ("train", train)):
            wanted |= _shapes(tree, item)
            try:
                self._quiet.start()
                found = ocp.StandardCheckpointer().metadata(self._path(step) / item).item_metadata
                if found is None:
                    raise ValueError("it has no metadata")
                saved |= _shapes(found.tree, item)
            except Exception as e:
                raise self._unreadable(step, e) from e
            finally:
                self._quiet.stop()
        parts = [
            f"{len(names)} arrays are {where} only, such as {min(names)}"
            for names, where in (
                (saved.keys() - wanted.keys(), "in the checkpoint"),
                (wanted.keys() - saved.keys(), "in this run"),
            )
            if names
        ]
        other = sorted(k for k in saved.keys() & wanted.keys() if saved[k] != wanted[k])
        if other:
            a, b = saved[other[0]], wanted[other[0]]
            parts.append(
                f"{len(other)} have another shape, such as {other[0]}: {a} in the checkpoint, "
                f"{b} in this run"
            )
        return "; ".join(parts)

    def set_aside(self, step: int, why: str) -> pathlib.Path:
        """Renames a checkpoint, so that it is neither restored nor in the way of a new one.

        Args:
          step: the step of the checkpoint.
          why: the first word of its new name, `damaged` or `unused`.

        Returns:
          The new path; what had that name before is deleted.

        Raises:
          UserError: it cannot be renamed.
        """
        old, new = self._path(step), self.folder / f"{why}_step_{step}"
        try:
            if new.exists():
                shutil.rmtree(new)
            old.rename(new)
        except OSError as e:
            raise UserError(f"{old} cannot be renamed to {new.name} ({e.strerror}).") from None
        return new

    def reload(self) -> None:
        """Looks at the disk again, after `set_aside` in any process."""
        self._manager.reload()

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
            raise self._unreadable(step, e) from e

    def _unreadable(self, step: int, e: Exception) -> UserError:
        return UserError(
            f"The checkpoint {self._path(step)} cannot be read, or does not fit this config "
            f"({_first_line(e)})."
        )

    def _path(self, step: int) -> pathlib.Path:
        return self.folder / f"step_{step}"

    def close(self) -> None:
        """Waits for the save in the background, if any, and releases what the manager holds.

        Raises:
          UserError: the save failed.
        """
        try:
            self.wait()
        finally:
            self._quiet.start()
            with contextlib.suppress(Exception):  # of a failed save, which `wait` has told
                self._manager.close()
            self._quiet.stop()


def _shapes(tree: Any, item: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a tree's arrays, by paths that are equal for tuples of fields and for dicts."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join([item, *map(_key, path)]): tuple(x.shape) for path, x in leaves}


def _key(entry: Any) -> str:
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return str(getattr(entry, name))
    return str(entry)


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0][:300]


def abstract_like(tree: Any) -> Any:
    """Returns the shapes, dtypes and shardings of a tree of arrays, as `restore` takes them."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
