"""Answers: `python -m pgjax.predict --checkpoint mix-224 --image a.jpg --prompt "caption en"`."""

import pathlib
import sys
import time
from collections.abc import Iterable, Iterator

from absl import flags

from pgjax import cli
from pgjax.errors import UserError

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A name (see --list), an .npz, a folder, an adapter, or a run directory."
)
_BASE = flags.DEFINE_string("base", None, "What an adapter of peft goes on; else what it names.")
_RUN = flags.DEFINE_string("run", None, "The same; reads well for the --workdir of training.")
_LIST = flags.DEFINE_bool("list", False, "Show the released checkpoints and stop.")
_QUANTIZE = flags.DEFINE_enum("quantize", None, ["int8", "int4", "nf4"], "Weights in 8 or 4 bits.")
_QUANTIZE_IMAGES = flags.DEFINE_bool("quantize_images", False, "The image tower's as well.")
_IMAGE = flags.DEFINE_string("image", None, "An image, a folder of images, or a glob.")
_JSONL = flags.DEFINE_string("jsonl", None, "Or a JSONL file of images and prompts.")
_PROMPT = flags.DEFINE_string("prompt", None, "The prompt; left out: that of training.")
_TASK = flags.DEFINE_enum("task", "answer", ["answer", "detect", "segment"], "What is read.")
_PICTURES = flags.DEFINE_string("pictures", None, "Folder for images with their objects drawn.")
_OUT = flags.DEFINE_string("out", None, "JSONL to write; left out: text on the screen.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 64, "Longest answer, in tokens.", lower_bound=1)
_SAMPLER = flags.DEFINE_string("sampler", "greedy", "greedy, temperature(0.7), beam(4), …")
_SEED = flags.DEFINE_integer("seed", 0, "Of the sampler.")
_BATCH = flags.DEFINE_integer(
    "batch_size", 0, "Examples decoded together; 0: as many as fit into memory.", lower_bound=0
)
_PLAN = flags.DEFINE_bool("plan", False, "Print what memory and time answers need, and stop.")
_DEVICE = flags.DEFINE_string("device", None, "Device to plan for: t4, l4, a100-40, h100, v5e, ….")
_JSON = flags.DEFINE_string("json", None, "File for the plan's figures.")


def main() -> None:
    """Reads the flags, loads the checkpoint and writes its answers."""
    from pgjax.loading.compiler_options import cache_compilations

    if _LIST.value:
        from pgjax.checkpoints.released import describe

        print(describe())
        return
    if _PLAN.value:
        _plan()
        return
    from pgjax.decoding.decoders import make_decoder

    source, checkpoint = _source(), _checkpoint()
    make_decoder(_SAMPLER.value)  # a typo is said before anything is loaded
    cache_compilations()
    from pgjax.inference.load import load
    from pgjax.inference.prediction_records import as_line, records

    pictures = _PICTURES.value and pathlib.Path(_PICTURES.value)
    if pictures:
        if _TASK.value == "answer":
            raise UserError("--pictures needs --task=detect or --task=segment.")
        pictures.mkdir(parents=True, exist_ok=True)
    found = records(
        load(
            checkpoint,
            quantize=_QUANTIZE.value,
            quantize_images=_QUANTIZE_IMAGES.value,
            base=_BASE.value,
        ),
        source,
        task=_TASK.value,
        pictures=pictures,
        max_new_tokens=_TOKENS.value,
        sampler=_SAMPLER.value,
        seed=_SEED.value,
        batch_size=_BATCH.value,
    )
    found = _timed(found, len(source))
    if _OUT.value is None:
        whole = len(source) > 1 or _TASK.value != "answer"
        for record in found:
            print(as_line(record) if whole else record["prediction"], flush=True)
        return
    out = pathlib.Path(_OUT.value)
    part = out.with_name(out.name + ".part")
    with part.open("w") as f:
        f.writelines(as_line(record) + "\n" for record in found)
    part.replace(out)
    print(f"{len(source)} answers: {out}", file=sys.stderr)


def _plan() -> None:
    """Prints what answers of a checkpoint need, which need not be here."""
    from pgjax.devices.data_sheets import get_device, this_device
    from pgjax.devices.targets import use_cpu
    from pgjax.inference.inference_plan import plan_inference

    if _DEVICE.value:
        use_cpu()
    found = plan_inference(
        _checkpoint(),
        get_device(_DEVICE.value) if _DEVICE.value else this_device(),
        quantize=_QUANTIZE.value,
        quantize_images=_QUANTIZE_IMAGES.value,
        base=_BASE.value,
        rows=_BATCH.value or 1,
        max_new_tokens=_TOKENS.value,
    )
    print(found.text)
    if _JSON.value:
        cli.write_json(_JSON.value, found.report)


def _checkpoint() -> str:
    if (_RUN.value is None) == (_CHECKPOINT.value is None):
        raise UserError("Give either --checkpoint or --run; --list shows the released names.")
    return _RUN.value or _CHECKPOINT.value


def _source():
    from pgjax.data.sources import make_source
    from pgjax.inference.images import PromptedImages
    from pgjax.inference.prediction_records import image_files

    if (_IMAGE.value is None) == (_JSONL.value is None):
        raise UserError("Give either --image or --jsonl.")
    if _JSONL.value is not None:
        if _PROMPT.value is not None:
            raise UserError("--prompt goes with --image; a JSONL holds its own in `prefix`.")
        return make_source({"name": "jsonl", "fname": _JSONL.value})
    prompt = _PROMPT.value
    if prompt is not None and _TASK.value != "answer":
        prompt = f"{_TASK.value} {prompt.removeprefix(_TASK.value + ' ')}"
    files = image_files(_IMAGE.value)
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


if __name__ == "__main__":
    cli.run(main)
