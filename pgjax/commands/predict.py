"""`pgjax predict`."""

import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from pgjax.commands.distributed import DistributedCommand
from pgjax.commands.output import write_json
from pgjax.commands.plan import DEVICE_HELP, JSON_HELP
from pgjax.errors import UsageError

if TYPE_CHECKING:
    from pgjax.inference.prediction_records import Task


class Predict(DistributedCommand):
    """Asks a checkpoint about one image, a folder, a glob, or the lines of a JSONL file."""

    name = "predict"
    example = 'pgjax predict --checkpoint mix-224 --image bee.jpg --prompt "caption en"'

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._checkpoint = self.text(
            "checkpoint", None,
            "The checkpoint: a name (see pgjax list checkpoints), an .npz, a folder, an adapter, "
            "or a run directory.",
        )  # fmt: skip
        self._run_dir = self.text("run", None, "Or a run directory, the --workdir of training.")
        self._base = self.text(
            "base",
            None,
            "The checkpoint below an adapter of peft or a run; left out: the one that it names.",
        )
        self._list = self.boolean("list", False, "Show the released checkpoints and stop.")
        self._quantize = self.choice(
            "quantize", None, ["int8", "int4", "nf4"],
            "Keep the decoder's matrices in 8 or 4 bits; left out: as the checkpoint has them.",
        )  # fmt: skip
        self._quantize_images = self.boolean(
            "quantize_images", False, "Quantize the image tower's matrices as well."
        )
        self._image = self.text("image", None, "An image, a folder of images, or a glob.")
        self._jsonl = self.text("jsonl", None, "Or a JSONL file of images and prompts.")
        self._prompt = self.text("prompt", None, "The prompt; left out: the one of training.")
        self._task = self.choice(
            "task", "answer", ["answer", "detect", "segment"],
            "What is read from the answer: its text, boxes, or boxes with masks.",
        )  # fmt: skip
        self._pictures = self.text(
            "pictures", None, "Folder for images with the detected objects drawn into them."
        )
        self._out = self.text("out", None, "JSONL file to write; left out: text on the screen.")
        self._max_new_tokens = self.integer(
            "max_new_tokens", 64, "Length of the longest answer, in tokens.", 1
        )
        self._sampler = self.text(
            "sampler", "greedy", "How tokens are chosen: greedy, temperature(0.7), beam(4), …."
        )
        self._seed = self.integer("seed", 0, "Seed of the sampler.")
        self._batch_size = self.integer(
            "batch_size", 0, "Examples decoded together; 0: as many as fit into memory.", 0
        )
        self._plan = self.boolean(
            "plan", False, "Print what memory and time answers need, and stop."
        )
        self._device = self.text("device", None, DEVICE_HELP)
        self._json = self.text("json", None, JSON_HELP)

    def run(self) -> None:
        """Loads the checkpoint and writes its answers, or does what is asked instead."""
        if self._list.value:
            from pgjax.checkpoints.released import describe

            print(describe())
        elif self._plan.value:
            self._print_plan()
        else:
            self._predict()

    def _predict(self) -> None:
        checkpoint, source, task = self._checkpoint_name(), self._source(), self._task.value
        from pgjax.decoding.decoders import make_decoder

        make_decoder(self._sampler.value)  # so that a typo is reported before anything is loaded
        pictures = pathlib.Path(self._pictures.value) if self._pictures.value else None
        if pictures:
            if task == "answer":
                raise UsageError("--pictures needs --task=detect or --task=segment.")
            pictures.mkdir(parents=True, exist_ok=True)
        self.join_processes()
        from pgjax.inference.load import load
        from pgjax.inference.prediction_records import as_line, records
        from pgjax.loading.compiler_options import cache_compilations

        cache_compilations()
        model = load(
            checkpoint,
            quantize=self._quantize.value,
            quantize_images=self._quantize_images.value,
            base=self._base.value,
        )
        found = records(
            model,
            source,
            task=cast("Task", task),
            pictures=pictures,
            max_new_tokens=self._max_new_tokens.value,
            sampler=self._sampler.value,
            seed=self._seed.value,
            batch_size=self._batch_size.value,
        )
        found = _timed(found, len(source))
        if self._out.value is None:
            whole = len(source) > 1 or task != "answer"
            for record in found:
                print(as_line(record) if whole else record["prediction"], flush=True)
            return
        out = pathlib.Path(self._out.value)
        part = out.with_name(out.name + ".part")
        with part.open("w") as f:
            f.writelines(as_line(record) + "\n" for record in found)
        part.replace(out)
        print(f"{len(source)} answers: {out}", file=sys.stderr)

    def _print_plan(self) -> None:
        """Prints what answers of a checkpoint need; its weights need not be here."""
        from pgjax.devices.data_sheets import get_device, this_device
        from pgjax.devices.targets import use_cpu
        from pgjax.inference.inference_plan import plan_inference

        if self._device.value:
            use_cpu()
        found = plan_inference(
            self._checkpoint_name(),
            get_device(self._device.value) if self._device.value else this_device(),
            quantize=self._quantize.value,
            quantize_images=self._quantize_images.value,
            base=self._base.value,
            rows=self._batch_size.value or 1,
            max_new_tokens=self._max_new_tokens.value,
        )
        print(found.text)
        if self._json.value:
            write_json(self._json.value, found.report)

    def _checkpoint_name(self) -> str:
        given = [name for name in (self._run_dir.value, self._checkpoint.value) if name is not None]
        if len(given) != 1:
            raise UsageError("Give either --checkpoint or --run; --list shows the released names.")
        return given[0]

    def _source(self) -> Any:
        from pgjax.data.sources import make_source
        from pgjax.inference.images import PromptedImages
        from pgjax.inference.prediction_records import image_files

        prompt, task = self._prompt.value, self._task.value
        if (self._image.value is None) == (self._jsonl.value is None):
            raise UsageError("Give either --image or --jsonl.")
        if self._image.value is None:
            if prompt is not None:
                raise UsageError("--prompt goes with --image; a JSONL holds its own in `prefix`.")
            return make_source({"name": "jsonl", "fname": self._jsonl.value})
        if prompt is not None and task != "answer":
            prompt = f"{task} {prompt.removeprefix(f'{task} ')}"
        files = image_files(self._image.value)
        return PromptedImages(files, [prompt] * len(files))


def _timed(records: Iterable[dict], total: int) -> Iterator[dict]:
    """Shows progress and throughput on the terminal's error stream."""
    from tqdm import tqdm

    started = time.perf_counter()
    yield from tqdm(records, total=total, unit=" answers", disable=None, leave=False)
    seconds = time.perf_counter() - started
    print(
        f"{total} answers in {seconds:.1f} s ({total / seconds:.2f}/s, compiling included)",
        file=sys.stderr,
    )
