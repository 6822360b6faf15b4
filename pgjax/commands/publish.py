"""Uploads of exported checkpoints, with their model card, to the Hugging Face hub."""

import pathlib
import shutil

from pgjax.errors import UserError
from pgjax.loading.run_directory import read_run

EXPORTED = "exported"  # folder in a run directory


def publish(
    source: str, folder: pathlib.Path, repo: str, *, adapter: bool = False, base: str = ""
) -> None:
    """Writes the model card into a folder that was exported from a source, and uploads it.

    Args:
      source: the run directory or checkpoint that was exported.
      folder: where to.
      repo: OWNER/NAME on the hub.
      adapter: whether the folder holds only LoRA adapters.
      base: the checkpoint beneath; "" for the one that a run names.

    Raises:
      UserError: the card cannot be written, or the hub refuses or cannot be reached; the folder
        stays.
    """
    from pgjax.checkpoints.hub import upload
    from pgjax.model_card import CARD_FILE, model_card

    card = model_card(source, repo, adapter=adapter, base=base)
    try:
        (folder / CARD_FILE).write_text(card)
    except OSError as e:
        raise UserError(f"{folder / CARD_FILE} cannot be written ({e.strerror}).") from None
    upload(folder, repo)


def publish_run(workdir: pathlib.Path, repo: str) -> None:
    """Exports a finished run to `exported` in its directory, and uploads that.

    A run of LoRA adapters is exported as an adapter of peft, any other for transformers, with the
    dtypes in which the run stores its parameters.

    Raises:
      UserError: as for `publish`.
    """
    from pgjax.loading.export import export, open_source

    folder = workdir / EXPORTED
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run of the same command
    adapter = read_run(workdir).config.model.lora.rank > 0
    export(open_source(str(workdir), None), folder, dtype=None, delta=False, adapter=adapter)
    publish(str(workdir), folder, repo, adapter=adapter)
