"""`pgjax predict`."""

import io
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from pgjax.commands.command import STEP_HELP
from pgjax.commands.distributed import DistributedCommand
from pgjax.commands.output import write_json
from pgjax.commands.plan import DEVICE_HELP, JSON_HELP
from pgjax.errors import UsageError

if TYPE_CHECKING:
    from pgjax.inference.prediction_file import PredictionFile
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
        self._step = self.text("step", None, STEP_HELP)
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
        self._restart = self.boolean(
            "restart", False, "Replace the file of --out, and discard predictions of before."
        )
        self._on_bad_example = self.choice(
            "on_bad_example", "raise", ["raise", "skip"],
            "What an image or a line that cannot be read does: it ends the work, or it is left out "
            "and counted.",
        )  # fmt: skip
        self._orient = self.boolean(
            "orient", False,
            "Turn images as their EXIF orientation says; boxes are those of the turned image.",
        )  # fmt: skip
        self._max_new_tokens = self.integer(
            "max_new_tokens", None,
            "Length of the longest answer, in tokens; left out: 64, and room for ten objects in "
            "answers to detect and segment.", 1,
        )  # fmt: skip
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
        out = self._open_out(checkpoint, source)
        from pgjax.inference.load import load
        from pgjax.inference.prediction_file import as_line
        from pgjax.inference.prediction_records import records
        from pgjax.loading.compiler_options import cache_compilations

        cache_compilations()
        model = load(
            checkpoint,
            quantize=self._quantize.value,
            quantize_images=self._quantize_images.value,
            base=self._base.value,
            step=self._step.value,
        )
        found = records(
            model,
            source,
            task=cast("Task", task),
            pictures=pictures,
            done=out.done if out else (),
            on_bad_example=self._on_bad_example.value,
            orient=True if self._orient.value else None,
            max_new_tokens=self._max_new_tokens.value,
            sampler=self._sampler.value,
            seed=self._seed.value,
            batch_size=self._batch_size.value,
        )
        found = _timed(found, len(source) - (len(out.done) if out else 0))
        if out is None:
            if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may say that it has ASCII
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
            whole = len(source) > 1 or task != "answer"
            for record in found:
                print(as_line(record) if whole else record["prediction"], flush=True)
            return
        for record in found:
            out.add(record)
        print(f"{out.finish()} answers: {self._out.value}", file=sys.stderr)

    def _open_out(self, checkpoint: str, source: Any) -> "PredictionFile | None":
        """Opens the file of --out, so that it is known to be writable before any work."""
        if self._out.value is None:
            if self._restart.value:
                raise UsageError("--restart goes with --out.")
            return None
        from pgjax.inference.prediction_file import PredictionFile

        flags = (
            "base",
            "step",
            "quantize",
            "quantize_images",
            "image",
            "jsonl",
            "prompt",
            "task",
            "orient",
        )
        flags += ("max_new_tokens", "sampler", "seed", "pictures")
        identity = {"checkpoint": checkpoint, "examples": len(source)}
        identity |= {name: self.flags[name].value for name in flags}
        identity["files"] = _changed_at(self._jsonl.value, checkpoint)
        writes = True
        if self.joined:
            import jax

            writes = jax.process_index() == 0
        out = pathlib.Path(self._out.value).expanduser()
        file = PredictionFile(out, identity, restart=self._restart.value, writes=writes)
        if file.done:
            print(f"{len(file.done)} of {len(source)} answers are stored already.", file=sys.stderr)
        return file

    def _print_plan(self) -> None:
        """Prints what answers of a checkpoint need; its weights need not be here."""
        from pgjax.devices.data_sheets import get_device, this_device
        from pgjax.devices.targets import use_cpu
        from pgjax.inference.inference_plan import plan_inference
        from pgjax.inference.prompts import answer_length

        if self._device.value:
            use_cpu()
        found = plan_inference(
            self._checkpoint_name(),
            get_device(self._device.value) if self._device.value else this_device(),
            quantize=self._quantize.value,
            quantize_images=self._quantize_images.value,
            base=self._base.value,
            rows=self._batch_size.value or 1,
            max_new_tokens=self._max_new_tokens.value or answer_length(self._prompt.value),
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
        from pgjax.inference.prompts import clean_prompts, with_verb

        prompt, task = self._prompt.value, self._task.value
        if (self._image.value is None) == (self._jsonl.value is None):
            raise UsageError("Give either --image or --jsonl.")
        if self._image.value is None:
            if prompt is not None:
                raise UsageError("--prompt goes with --image; a JSONL holds its own in `prefix`.")
            return make_source({"name": "jsonl", "fname": self._jsonl.value})
        (prompt,) = clean_prompts([prompt])
        if prompt is not None and task != "answer":
            prompt = with_verb(task, prompt)
        files = image_files(self._image.value)
        return PromptedImages(files, [prompt] * len(files))


def _changed_at(*paths: str | None) -> list[int]:
    """When the files among the paths were changed, and the checkpoints of run directories."""
    files = [pathlib.Path(path).expanduser() for path in paths if path is not None]
    files += [path / "checkpoints" for path in files]
    return [path.stat().st_mtime_ns for path in files if path.exists()]


def _timed(records: Iterable[dict], total: int) -> Iterator[dict]:
    """Shows progress and throughput on the terminal's error stream."""
    from tqdm import tqdm

    started, count = time.perf_counter(), 0
    for record in tqdm(records, total=total, unit=" answers", disable=None, leave=False):
        count += 1
        yield record
    seconds = time.perf_counter() - started
    print(
        f"{count} answers in {seconds:.1f} s ({count / seconds:.2f}/s, compiling included)",
        file=sys.stderr,
    )
