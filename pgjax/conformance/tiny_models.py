"""The tiny models that every adapter is given, one of each family, and how their files are made.

Their parameters follow from their names alone, in arithmetic that is exact on every machine, so
that the files need not be shipped: only what other programs computed from them is.
"""

import dataclasses
import json
import math
import pathlib
import re
import zlib
from typing import Any

import flax.linen as nn
import numpy as np

from pgjax import trees
from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.npz import write_npz
from pgjax.checkpoints.peft import adapter_table, merged, write_adapter
from pgjax.checkpoints.tensors import InMemory, Tensor
from pgjax.models import vqvae
from pgjax.models.paligemma import abstract_params, explicit, make_model
from pgjax.text.tokenizer import Tokenizer

RES = 56
_IMG = {"width": 48, "depth": 2, "mlp_dim": 104, "num_heads": 4, "patch_size": (14, 14)}
# keras-hub's reader of Hugging Face folders takes the number of image tokens for the size of a
# head, which holds for the released checkpoints; so it does here: both are 16.
_LLM = {
    "width": 64, "depth": 2, "mlp_dim": 136, "num_heads": 4, "num_kv_heads": 1, "head_dim": 16,
    "vocab_size": 1664,
}  # fmt: skip
_GEMMA2 = {"num_kv_heads": 2, "post_norms": True, "attn_softcap": 50.0, "final_softcap": 30.0}
SPECS: dict[str, dict[str, Any]] = {
    "paligemma": {"res": RES, "img": _IMG, "llm": _LLM},
    "paligemma2": {"res": RES, "img": _IMG, "llm": _LLM | _GEMMA2},
}
_LORA = {"rank": 3, "alpha": 6.0, "rslora": False, "dropout": 0.0}
_ADAPTED = "llm/layers/(attn/q_einsum|attn/kv_einsum|mlp)/.*"

# The first pattern that a name matches gives the standard deviation of a parameter's values: a
# number, or the axes whose sizes' product is the number n of summands, for n^-½. Norms are not
# neutral; queries and the last norm are large, so that the soft caps matter, and what layers add
# is, so that an answer does not only repeat its last token.
_SPREAD: tuple[tuple[str, float | tuple[int, ...]], ...] = (
    (".*input_embedding", 0.125),
    (".*final_norm/scale", 1.0),
    (".*(bias|scale|pos_embedding)", 0.2),
    ("img/embedding/kernel", (0, 1, 2)),
    ("img/head/kernel", (0,)),
    (".*/out/kernel", (1, 2)),
    ("img/.*/kernel", (1,)),
    (".*q_einsum/w", 0.5),
    (".*kv_einsum/w", (3,)),
    (".*gating_einsum", (2,)),
    (".*attn_vec_einsum/w", 0.4),
    (".*mlp/linear", 0.3),
    (".*lora_.", 0.2),
    ("_vq_vae._embedding", 1.0),
    (".*weight", (1, 2, 3)),
)
_MEANS = (("img/.*Norm.*/scale", 1.0), ("img/.*encoder_norm/scale", 1.0),
          ("llm/final_norm/scale", 4.0), ("llm/.*post_.*/scale", 2.0))  # fmt: skip
EOS = 1


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """One tiny model, in each of the forms that frameworks read.

    Attributes:
      family: `paligemma` or `paligemma2`.
      npz: the parameters, float32, with big_vision's names and shapes under `params/`.
      folder: a Hugging Face folder with config, safetensors, tokenizer and the settings of the
        image processor that the released repositories have.
      lora: an adapter in peft's layout; on top of `lora_base` it is the same model.
      lora_base: a Hugging Face folder of which some matrices lack what `lora` adds.
      tokenizer: a SentencePiece model with location and segmentation tokens.
      mask_decoder: the codebook and decoder of masks, with the names of `vae-oid.npz`.
    """

    family: str
    npz: pathlib.Path
    folder: pathlib.Path
    lora: pathlib.Path
    lora_base: pathlib.Path
    tokenizer: pathlib.Path
    mask_decoder: pathlib.Path


def parameters(family: str) -> dict[str, np.ndarray]:
    """Returns a model's parameters by name, float32."""
    flat = trees.flatten(nn.unbox(abstract_params(make_model(SPECS[family]))))
    params = {name: _draw(f"{family}/{name}", name, x.shape) for name, x in flat.items()}
    for name, x in params.items():
        x += next((mean for pattern, mean in _MEANS if re.fullmatch(pattern, name)), 0.0)
    params["llm/embedder/input_embedding"][EOS] *= 2.0  # so that some answers end
    return params


def mask_decoder_parameters() -> dict[str, np.ndarray]:
    """Returns the codebook and the decoder of masks, float32, in the released sizes."""
    return {
        name: _draw(f"masks/{name}", name, shape)
        for name, shape in vqvae.shapes().items()
        if not name.startswith("encoder.")
    }


def write_models(family: str, folder: pathlib.Path) -> ModelFiles:
    """Writes a model's files into an existing empty folder.

    Raises:
      UserError: they cannot be written.
    """
    files = ModelFiles(
        family,
        npz=folder / "model.npz",
        folder=folder / "huggingface",
        lora=folder / "lora",
        lora_base=folder / "lora_base",
        tokenizer=folder / "tokenizer.model",
        mask_decoder=folder / "masks.npz",
    )
    spec = explicit(make_model(SPECS[family]))
    tensors: dict[str, Tensor] = {k: InMemory(x) for k, x in parameters(family).items()}
    tokenizer = Tokenizer.tiny().model_bytes
    files.tokenizer.write_bytes(tokenizer)
    write_npz(files.npz, tensors)
    np.savez(files.mask_decoder, **mask_decoder_parameters())  # pyright: ignore[reportArgumentType]

    factors = _lora_factors(family, spec)
    minus = {k: -x if k.endswith("_b") else x for k, x in factors.items()}
    scale = _LORA["alpha"] / _LORA["rank"]
    base = merged(tensors | {k: InMemory(x) for k, x in minus.items()}, spec, scale)
    for path, content in ((files.folder, tensors), (files.lora_base, base)):
        write_folder(path, content, spec, tokenizer=tokenizer)
        settings = path / "preprocessor_config.json"
        # The released repositories say bicubic, which is 3, where the models were trained on
        # bilinear, which is 2.
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"resample": 3}))
    lora = {k: InMemory(x) for k, x in factors.items()}
    write_adapter(files.lora, lora, spec, _LORA, base=str(files.lora_base))
    return files


def _lora_factors(family: str, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    shapes = {
        entry.name: (
            len(entry.layers),
            *([len(entry.layers[0])] if entry.split else []),
            *entry.layers[0][0].shape,
        )
        for entry in adapter_table(spec, _LORA["rank"])
        if re.fullmatch(_ADAPTED, entry.name)
    }
    return {name: _draw(f"{family}/{name}", name, shape) for name, shape in shapes.items()}


def _draw(seed: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws float32 values from a uniform distribution, the same ones on every machine."""
    spread = next(x for pattern, x in _SPREAD if re.fullmatch(pattern, name))
    if isinstance(spread, tuple):
        spread = math.prod(shape[axis] for axis in spread) ** -0.5
    # RandomState's stream of uniform numbers never changes between versions of numpy.
    unit = np.random.RandomState(zlib.crc32(seed.encode())).random_sample(shape)
    return ((2 * unit - 1) * (3**0.5 * spread)).astype(np.float32)
