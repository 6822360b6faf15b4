"""`pgjax convert`."""

import pathlib
from collections.abc import Sequence

from pgjax.commands.command import STEP_HELP, Command
from pgjax.errors import UsageError


class Convert(Command):
    """Converts a checkpoint to an .npz, a Hugging Face folder, a delta or an adapter.

    SOURCE is a released name, an .npz, a Hugging Face folder, an adapter of peft, or a run
    directory. DEST is a new .npz, as big_vision reads it, or else a new folder, as transformers
    reads it. LoRA adapters are merged into their matrices, unless --adapter is given.

      pgjax convert pt-224 exported/            any source to a folder for transformers
      pgjax convert google-folder/ model.npz    a Hugging Face folder to one .npz
      pgjax convert runs/mine mine.npz --delta  only what trained, to load on top of its base
      pgjax convert runs/mine mine/ --adapter   only the LoRA adapters, as peft reads them
    """

    name = "convert"
    arguments = "SOURCE DEST"
    example = "pgjax convert runs/mine exported/ --dtype bfloat16 --push_to_hub me/mine"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._dtype = self.choice(
            "dtype", None, ["float32", "float16", "bfloat16"],
            "Precision of the tensors; left out: as they are stored.",
        )  # fmt: skip
        self._tokenizer = self.text(
            "tokenizer", None, "A tokenizer.model, where there is none beside the source."
        )
        self._delta = self.boolean("delta", False, "Write only what a run trained, as an .npz.")
        self._adapter = self.boolean(
            "adapter", False, "Write only the LoRA adapters of a run, in the layout of peft."
        )
        self._base = self.text(
            "base", None,
            "The checkpoint below an adapter, to read it with or to name in what is written; left "
            "out: the one that it knows.",
        )  # fmt: skip
        self._step = self.text("step", None, STEP_HELP)
        self._push = self.text(
            "push_to_hub",
            None,
            "Upload the folder to this repository (OWNER/NAME) of the Hugging Face hub, with a "
            "model card.",
        )

    def run(self) -> None:
        """Converts, then uploads."""
        name, dest = self.positional[0], pathlib.Path(self.positional[1]).expanduser()
        if self._push.value and dest.suffix == ".npz":
            raise UsageError("--push_to_hub uploads a folder; let DEST be one.")
        from pgjax.commands.publish import publish
        from pgjax.loading.export import export, open_source

        export(
            open_source(name, self._tokenizer.value, self._base.value, self._step.value),
            dest,
            dtype=self._dtype.value,
            delta=self._delta.value,
            adapter=self._adapter.value,
        )
        if self._push.value:
            adapter, base = self._adapter.value, self._base.value or ""
            publish(name, dest, self._push.value, adapter=adapter, base=base)
        print(dest)
