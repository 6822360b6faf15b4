"""Writes what `pgjax conformance` expects, by running big_vision on the suite's tiny models.

    python tools/make_conformance_data.py BIG_VISION OUT

BIG_VISION is a checkout of google-research/big_vision with a file COMMIT that names its commit; it
needs TensorFlow and einops. Nothing is computed by pgjax, which only gives the models' parameters.
OUT is pgjax/conformance/data. The cap of the final logits is applied wherever big_vision makes
logits of hidden states; its code leaves it out there, although the whole pass of its decoder has
it. The tool also answers with slightly perturbed parameters, and refuses examples whose answers
change, because they would hang on rounding.
"""

import argparse
import functools
import importlib.metadata
import json
import pathlib
import sys
import types

import flax
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pgjax import trees
from pgjax.conformance.stored_outputs import BEAMS, NEW_TOKENS, digest, prefix_mask
from pgjax.conformance.tiny_models import RES, SPECS, mask_decoder_parameters, parameters

ROOT = pathlib.Path(__file__).parents[1]
PHOTOS = ROOT / "pgjax" / "demo" / "photos"
# Photo, crop (left, top, right, bottom) and size: to be made smaller, in both axes by different
# factors, and to be made larger.
PICTURES = (
    ("china.jpg", (20, 10, 180, 120), (150, 103)),
    ("flower.jpg", (40, 30, 190, 180), (64, 128)),
    ("astronaut.jpg", (60, 20, 160, 120), (31, 40)),
)
EXAMPLES = (
    ("china.jpg", "caption en", "a house with a roof"),
    ("flower.jpg", "detect bee ; flower", "<loc0100><loc0200><loc0800><loc0900> bee"),
    ("astronaut.jpg", "answer en who is this?", "an astronaut"),
)
LOGITS = 2  # the examples whose logits and losses are stored
GRADIENTS = (
    "img/embedding/bias",
    "img/pos_embedding",
    "img/Transformer/encoderblock/LayerNorm_0/scale",
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel",
    "img/head/kernel",
    "llm/layers/attn/kv_einsum/w",
    "llm/layers/attn/q_einsum/w",
    "llm/layers/pre_attention_norm/scale",
    "llm/final_norm/scale",
)
# Prefixes and suffixes whose tokens are stored: white space, line breaks, other scripts, special
# tokens and what only looks like them.
TEXTS = (
    ("caption en", "a cat sitting on a wooden bench"),
    ("answer en what color is the bus?", "red"),
    ("detect cat ; dog", "<loc0123><loc0045><loc1000><loc0999> cat ; <loc0000><loc0001><loc0512>"
     "<loc1023> dog"),
    ("segment the left cat", "<loc0100><loc0200><loc0800><loc0900>"
     + "".join(f"<seg{i:03d}>" for i in range(0, 128, 8)) + " cat"),
    ("caption de", "Ein Mädchen läuft über die Straße – „schön“"),
    ("caption ja", "猫が座っている 🐈"),
    ("line one\nline two", "tab\there  two  spaces   three"),
    ("caption en\n", "the prefix ends with a line break"),
    (" leading space", " leading space"),
    ("numbers 12345 67.89% 1,000", "$3.50 + 2 = 5.50"),
    ("<loc1024> <loc12> <seg128>", "a<loc0001>b <LOC0001>"),
    ("", "nothing before"),
)  # fmt: skip


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("big_vision", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", "highest")
    sys.path.insert(0, str(args.big_vision))
    found = {
        "made_with": versions(args.big_vision),
        "texts": [tokens(*text) for text in TEXTS],
        "examples": [tokens(prefix, suffix) for _, prefix, suffix in EXAMPLES],
    }
    check_masks(found["examples"])
    (args.out / "tokens.json").write_text(json.dumps(found, ensure_ascii=False) + "\n")
    np.savez_compressed(args.out / "shared.npz", **shared())
    for family in SPECS:
        np.savez_compressed(args.out / f"{family}.npz", **outputs(family))
    print(sum(path.stat().st_size for path in args.out.iterdir()), "bytes")


def versions(big_vision: pathlib.Path) -> str:
    """What the outputs were made with."""
    found = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "tensorflow")]
    head = (big_vision / "COMMIT").read_text().strip()
    return f"big_vision {head[:12]}, {', '.join(found)}"


def tokens(prefix: str, suffix: str) -> dict:
    """A prefix and a suffix with their tokens, by big_vision's pipeline for training."""
    import big_vision.pp.builder as pp_builder
    import big_vision.pp.ops_general
    import big_vision.pp.ops_text
    import big_vision.pp.proj.paligemma.ops  # noqa: F401
    import big_vision.pp.tokenizer as bv_tok
    from big_vision.configs.proj.paligemma.transfers import common

    model = ROOT / "pgjax" / "text" / "tiny_tokenizer.model"
    common.TOKENIZER = f'gemma(tokensets=("loc", "seg"), model="{model}")'
    pp = pp_builder.get_preprocess_fn(common.combine_and_keep_train(199))
    out = pp({"image": np.zeros(1), "prefix": prefix, "suffix": suffix})
    text, causal, supervised = (np.asarray(out[k]) for k in ("text", "mask_ar", "mask_loss"))
    prompt = text[causal == 0].tolist()
    answer = text[supervised == 1].tolist()
    assert answer[-1] == 1 and not text[len(prompt) + len(answer) :].any()
    # How others tokenize it; two line breaks are one token of their own.
    joined = bv_tok.get_tokenizer(common.TOKENIZER).to_int(prefix + "\n", bos=True)
    return {
        "prefix": prefix, "suffix": suffix, "prompt": prompt, "answer": answer, "joined": joined,
    }  # fmt: skip


def check_masks(examples: list[dict]) -> None:
    """Checks that the suite's definition of masks is that of big_vision."""
    from big_vision.models.proj.paligemma import paligemma

    image, padding = 16, 3
    for example in examples:
        prompt, answer = len(example["prompt"]), len(example["answer"])
        valid = image + prompt + answer
        causal = [0] * (image + prompt) + [1] * (answer + padding)
        inputs = jnp.arange(valid + padding)[None] < valid
        want = np.asarray(paligemma.make_attn_mask(inputs, jnp.asarray([causal])))[0]
        got = prefix_mask(image, prompt, answer, prompt + answer + padding)
        np.testing.assert_array_equal(got[:valid], want[:valid])


def shared() -> dict[str, np.ndarray]:
    """Pictures and their resized versions, and decoded masks."""
    import tensorflow as tf
    from big_vision.evaluators.proj.paligemma.transfers import segmentation

    result = {}
    for i, (photo, crop, size) in enumerate(PICTURES):
        picture = np.asarray(Image.open(PHOTOS / photo).convert("RGB").crop(crop).resize(size))
        result[f"picture/{i}"] = picture
        side = min(picture.shape[:2])
        top, left = ((n - side) // 2 for n in picture.shape[:2])
        square = picture[top : top + side, left : left + side]
        want = tf.image.resize(picture, (RES, RES), method="bilinear", antialias=True)
        result[f"resized/{i}"] = np.asarray(want, np.float32) / np.float32(127.5) - 1
        # The other ways only serve to tell which one was taken.
        for name, original, options in (
            ("bicubic", picture, {"method": "bicubic", "antialias": True}),
            ("bilinear_aliased", picture, {"method": "bilinear"}),
            ("bicubic_aliased", picture, {"method": "bicubic"}),
            ("nearest", picture, {"method": "nearest"}),
            ("cropped", square, {"method": "bilinear", "antialias": True}),
            ("cropped_aliased", square, {"method": "bilinear"}),
        ):
            x = np.asarray(tf.image.resize(original, (RES, RES), **options))
            result[f"resized/{i}/{name}"] = np.clip(np.round(x), 0, 255).astype(np.uint8)
    result |= {f"example/{i}": x for i, x in enumerate(example_pictures())}
    codes = np.random.RandomState(0).randint(0, 128, (3, 16)).astype(np.int32)
    params = segmentation._get_params(mask_decoder_parameters())
    values = segmentation._quantized_values_from_codebook_indices(codes, params["_embeddings"])
    masks = segmentation.Decoder().apply({"params": params}, values)
    result |= {"codes": codes, "masks": np.asarray(masks)[..., 0]}
    return result


def model_of(family: str, **changes: float):
    """big_vision's model in the sizes of a family; `changes` are of its decoder."""
    from big_vision.models.ppp import gemma
    from big_vision.models.proj.paligemma import paligemma

    img, llm = SPECS[family]["img"], dict(SPECS[family]["llm"])
    for name in ("attn", "final"):
        llm[f"{name}_logits_softcap"] = llm.pop(f"{name}_softcap", 0.0)
    register_capped_decoder()
    gemma.get_config = lambda variant: ConfigDict({"variant": variant, "norm_eps": 1e-6, **llm})
    tiny = {"variant": "tiny", "cache_dtype": None, "remat_policy": "none", **changes}
    return paligemma.Model(
        img=flax.core.freeze({**img, "pool_type": "none", "scan": True, "posemb": "learn"}),
        llm_model="capped_gemma",
        llm=flax.core.freeze(tiny),
    )


def register_capped_decoder() -> None:
    """Gives big_vision a decoder, `capped_gemma`, all of whose logits have the final cap."""
    from big_vision.models.proj.paligemma import gemma_bv

    class Model(gemma_bv.Model):
        def compute_logits(self, pre_logits, train=False):
            logits = super().compute_logits(pre_logits, train)
            cap = gemma_bv._get_config(self).final_logits_softcap
            return cap * jnp.tanh(logits / cap) if cap else logits

    module = types.ModuleType("big_vision.models.capped_gemma")
    module.__dict__["Model"] = Model
    sys.modules.setdefault(module.__name__, module)


def outputs(family: str) -> dict[str, np.ndarray]:
    """What a family's model gives for the examples."""
    flat = parameters(family)
    params = trees.unflatten({k: jnp.asarray(x) for k, x in flat.items()})
    pictures = jnp.asarray(example_pictures(), jnp.float32) / 127.5 - 1
    texts = [tokens(prefix, suffix) for _, prefix, suffix in EXAMPLES]
    model = model_of(family)
    result = {"digest": np.array(digest(flat))}
    image_tokens, _ = model.apply({"params": params}, pictures, method=model.embed_image)
    result["image_tokens"] = np.asarray(image_tokens)

    def arrays(i, causal=None):
        prompt, answer = texts[i]["prompt"], texts[i]["answer"]
        ar = (
            [0] * len(prompt) + [1] * len(answer)
            if causal is None
            else [causal] * (len(prompt) + len(answer))
        )
        return pictures[i : i + 1], jnp.asarray([prompt + answer]), jnp.asarray([ar])

    def logits(model, i, causal=None, params=params):
        return model.apply({"params": params}, *arrays(i, causal))[0][0]

    def loss(x, i, *, everything=False):
        text = jnp.asarray(texts[i]["prompt"] + texts[i]["answer"])
        losses = -jnp.take_along_axis(jax.nn.log_softmax(x)[:-1], text[1:, None], axis=1)[:, 0]
        return losses if everything else losses[len(texts[i]["prompt"]) - 1 :]

    variants = {"causal": (model, 1), "full": (model, 0)}
    if SPECS[family]["llm"].get("post_norms"):
        variants["no_final_softcap"] = (model_of(family, final_logits_softcap=0.0), None)
        variants["no_attention_softcap"] = (model_of(family, attn_logits_softcap=0.0), None)
    answer_losses = []
    for i in range(LOGITS):
        own = logits(model, i)
        result[f"logits/{i}"] = np.asarray(own[len(texts[i]["prompt"]) - 1 :])
        answer_losses.append(loss(own, i))
        result[f"loss/{i}"] = np.asarray(answer_losses[-1].mean())
        result[f"loss/{i}/sum"] = np.asarray(answer_losses[-1].sum())
        result[f"loss/{i}/prompt_supervised"] = np.asarray(loss(own, i, everything=True).mean())
        result[f"loss/{i}/without_eos"] = np.asarray(answer_losses[-1][:-1].mean())
        for name, (other, causal) in variants.items():
            x = logits(other, i, causal)
            result[f"logits/{i}/{name}"] = np.asarray(x[-2])
            result[f"loss/{i}/{name}"] = np.asarray(loss(x, i).mean())
    result["loss/batch"] = np.mean([x.mean() for x in answer_losses])
    result["loss/batch/by_token"] = np.mean(np.concatenate(answer_losses))

    grads = jax.grad(lambda params: loss(logits(model, 0, params=params), 0).mean())(params)
    grads = trees.flatten(grads)
    result |= {f"gradient/{name}": np.asarray(grads[name]) for name in GRADIENTS}
    for beams in (1, BEAMS):
        result[f"answers/{beams}"] = answers(model, params, pictures, texts, beams)
        for seed in range(2):
            noisy = jax.tree.map(functools.partial(perturbed, seed), params)
            same = answers(model, noisy, pictures, texts, beams) == result[f"answers/{beams}"]
            assert same.all(), (family, beams, "an answer hangs on rounding")
        print(family, beams, result[f"answers/{beams}"].tolist())
    return {k: x.astype(np.float32) if x.dtype == np.float64 else x for k, x in result.items()}


def perturbed(seed: int, x: jax.Array) -> jax.Array:
    """Values that differ by up to 1e-5 of themselves."""
    noise = np.random.RandomState(seed).uniform(-1e-5, 1e-5, x.shape)
    return x * jnp.asarray(1 + noise, jnp.float32)


def example_pictures() -> np.ndarray:
    """The pictures of the examples, uint8 [B,H,W,3]."""
    pictures = [Image.open(PHOTOS / p).convert("RGB").resize((RES, RES)) for p, _, _ in EXAMPLES]
    return np.stack(pictures)


def answers(model, params, pictures, texts, beams) -> np.ndarray:
    """Greedy answers, or those of a beam search, with 0 after eos: int32 [B,T]."""
    from big_vision.trainers.proj.paligemma import predict_fns

    width = max(len(text["prompt"]) for text in texts)
    rows = [text["prompt"] for text in texts]
    batch = {
        "image": pictures,
        "text": jnp.asarray([row + [0] * (width - len(row)) for row in rows]),
        "mask_ar": jnp.asarray([[0] * len(row) + [1] * (width - len(row)) for row in rows]),
        "mask_input": jnp.asarray([[i < len(row) for i in range(width)] for row in rows]),
        "_mask": jnp.ones(len(rows), bool),
    }
    decode = predict_fns.get_all(model)["decode" if beams == 1 else "beam_decode"]
    options = {} if beams == 1 else {"beam_size": beams}
    out = decode({"params": params}, batch, devices=np.array(jax.devices()),
                 max_decode_len=NEW_TOKENS[beams], eos_token=1, **options)  # fmt: skip
    out = np.asarray(out).astype(np.int32)
    after = np.cumsum(out == 1, axis=1) - (out == 1) > 0
    return np.where(after, 0, out)


if __name__ == "__main__":
    main()
