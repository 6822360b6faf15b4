"""Saves small random PaliGemmas with the installed transformers, as test_hf_versions.py reads them.

    python tests/checkpoints/make_hf_folders.py TOKENIZER_MODEL OUT_FOLDER

Each folder holds what `save_pretrained` writes, and `reference.npz`: an image, the ids of a prompt,
and the float32 logits that this transformers computes from the saved files. `processor/` holds what
the processor saves, of which the tokenizer is compressed. Run it once for each version of
transformers that is to be covered.
"""

import gzip
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers

VOCABULARY, PADDING, RES, PATCH = 40, 64, 16, 8
IMAGE_TOKENS = (RES // PATCH) ** 2
VARIANTS = {  # name -> (kind, dtype, largest shard)
    "gemma-float32": ("gemma", torch.float32, "1GB"),
    "gemma-bfloat16": ("gemma", torch.bfloat16, "3KB"),
    "gemma2-float32": ("gemma2", torch.float32, "6KB"),
    "gemma2-bfloat16": ("gemma2", torch.bfloat16, "1GB"),
}


def random_model(kind: str, dtype: torch.dtype):
    """Makes a model whose every parameter is random; those that config.json leaves out are few."""
    text = {
        "model_type": kind, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 8 if kind == "gemma2" else 2, "num_key_value_heads": 1,
        "head_dim": 4, "vocab_size": VOCABULARY + PADDING, "hidden_activation": "gelu_pytorch_tanh",
    }  # fmt: skip
    if kind == "gemma2":
        # Small, so that leaving them out changes the logits.
        text |= {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 3.0,
                 "query_pre_attn_scalar": 6}  # fmt: skip
    config = transformers.PaliGemmaConfig(
        text_config=text,
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": RES,
            "patch_size": PATCH, "projection_dim": 8, "vision_use_head": False,
        },
        image_token_index=VOCABULARY,
        projection_dim=8,
        hidden_size=8,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=1,
    )  # fmt: skip
    model = transformers.PaliGemmaForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.to(dtype)


def reference(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Computes float32 logits from the saved folder, without padding in the prompt."""
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert next(model.parameters()).dtype == torch.float32
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (1, 3, RES, RES)).astype(np.float32)
    text = np.concatenate([[2], rng.integers(3, VOCABULARY, 6)])[None]
    ids = torch.tensor(np.concatenate([np.full((1, IMAGE_TOKENS), VOCABULARY), text], axis=1))
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),  # all of it is a prefix
            pixel_values=torch.tensor(image),
        ).logits
    return {
        "image": image.transpose(0, 2, 3, 1),
        "text": text.astype(np.int32),
        "logits": logits[0, -1, :VOCABULARY].float().numpy(),
    }


def save_processor(tokenizer_model: str, out: pathlib.Path) -> None:
    """Saves the processor as a fine-tuning script does."""
    source = out.with_name("source")
    source.mkdir()
    shutil.copy(tokenizer_model, source / "tokenizer.model")
    kind = getattr(transformers, "GemmaTokenizerFast", transformers.GemmaTokenizer)
    tokenizer = kind.from_pretrained(source)
    images = transformers.SiglipImageProcessor(size={"height": RES, "width": RES})
    images.image_seq_length = IMAGE_TOKENS
    transformers.PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(
        out
    )
    shutil.rmtree(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / f"{name}.gz").write_bytes(gzip.compress((out / name).read_bytes(), mtime=0))
        (out / name).unlink()
    (out / "tokenizer.model").unlink(missing_ok=True)


def main() -> None:
    """Makes the folders of one version."""
    tokenizer_model, out = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    for name, (kind, dtype, shard) in VARIANTS.items():
        if kind not in known:  # transformers 4.41 is older than PaliGemma 2
            continue
        random_model(kind, dtype).save_pretrained(out / name, max_shard_size=shard)
        np.savez_compressed(out / name / "reference.npz", **reference(out / name))
    save_processor(tokenizer_model, out / "processor")


if __name__ == "__main__":
    main()
