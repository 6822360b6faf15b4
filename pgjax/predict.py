"""Answers: `python -m pgjax.predict --run DIR --image a.jpg --prompt "caption en"`."""

import pathlib
import sys

from absl import flags

from pgjax import cli
from pgjax.errors import UserError

_RUN = flags.DEFINE_string("run", None, "Run directory (the --workdir of training).")
_IMAGE = flags.DEFINE_string("image", None, "An image, or a folder of images.")
_JSONL = flags.DEFINE_string("jsonl", None, "Or a JSONL file of images and prompts.")
_PROMPT = flags.DEFINE_string("prompt", None, "The prompt; left out: that of training.")
_OUT = flags.DEFINE_string("out", None, "JSONL to write; left out: text on the screen.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 64, "Longest answer, in tokens.", lower_bound=1)
_SAMPLER = flags.DEFINE_string("sampler", "greedy", "greedy, or temperature(0.7).")
_SEED = flags.DEFINE_integer("seed", 0, "Of the sampler.")
_BATCH = flags.DEFINE_integer("batch_size", 8, "Examples decoded together.", lower_bound=1)


def main() -> None:
    """Reads the flags and calls `pgjax.inference.predict.predict`."""
    from pgjax.compilation import cache_compilations
    from pgjax.data.sources import make_source
    from pgjax.inference import predict as p

    if _RUN.value is None:
        raise UserError("--run is missing; it names the --workdir of a training run.")
    if (_IMAGE.value is None) == (_JSONL.value is None):
        raise UserError("Give either --image or --jsonl.")
    if _JSONL.value is not None:
        if _PROMPT.value is not None:
            raise UserError("--prompt goes with --image; a JSONL holds its own in `prefix`.")
        source = make_source({"name": "jsonl", "fname": _JSONL.value})
    else:
        source = p.FileSource(p.image_files(pathlib.Path(_IMAGE.value)), _PROMPT.value)
    cache_compilations()
    records = p.predict(
        pathlib.Path(_RUN.value),
        source,
        max_new_tokens=_TOKENS.value,
        sampler=_SAMPLER.value,
        seed=_SEED.value,
        batch_size=_BATCH.value,
    )
    if _OUT.value is None:
        for record in records:
            print(record["prediction"] if len(source) == 1 else p.as_line(record), flush=True)
        return
    out = pathlib.Path(_OUT.value)
    part = out.with_name(out.name + ".part")
    with part.open("w") as f:
        for record in records:
            f.write(p.as_line(record) + "\n")
    part.replace(out)
    print(f"{len(source)} answers: {out}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
