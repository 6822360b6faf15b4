"""Writes checkpoints of released names with random weights, as small as the emulation says.

PYTHONPATH=.:tests/colabs/emulation python tests/colabs/make_releases.py OUT_FOLDER NAME…
"""

import pathlib
import sys

import jax
import numpy as np

from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.released import RELEASES
from pgjax.checkpoints.tensors import InMemory
from pgjax.config.init_sizes import variants_of
from pgjax.models.paligemma import explicit, init_params, make_model
from pgjax.text.tokenizer import Tokenizer
from pgjax.trees import flatten


def main() -> None:
    """Writes a folder, as its repository on the hub, for each name."""
    out, *names = sys.argv[1:]
    for seed, name in enumerate(names):
        release, variants = RELEASES[name], variants_of(name)
        model = make_model(
            {"res": release.res, **{part: {"variant": v} for part, v in variants.items()}}
        )
        flat = flatten(init_params(model, jax.random.key(seed)))
        write_folder(
            pathlib.Path(out, release.repo),
            {key: InMemory(np.asarray(x)) for key, x in flat.items()},
            explicit(model),
            dtype="float16",
            tokenizer=Tokenizer.tiny().model_bytes,
        )


if __name__ == "__main__":
    main()
