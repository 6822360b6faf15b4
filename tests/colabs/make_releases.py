"""Writes checkpoints of released names with random weights, as small as the emulation says.

PYTHONPATH=.:tests/colabs/emulation python tests/colabs/make_releases.py OUT_FOLDER NAME…
"""

import pathlib
import sys

import flax.linen as nn
import numpy as np

from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.released import RELEASES
from pgjax.checkpoints.tensors import InMemory
from pgjax.config.init_sizes import variants_of
from pgjax.models.paligemma import abstract_params, explicit, make_model
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
        shapes = {k: x.shape for k, x in flatten(nn.unbox(abstract_params(model))).items()}
        rng = np.random.default_rng(seed)
        weights = {k: rng.normal(0, 0.05, s).astype(np.float32) for k, s in shapes.items()}
        write_folder(
            pathlib.Path(out, release.repo),
            {key: InMemory(x) for key, x in weights.items()},
            explicit(model),
            dtype="float16",
            tokenizer=Tokenizer.tiny().model_bytes,
        )


if __name__ == "__main__":
    main()
