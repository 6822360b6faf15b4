"""Hugging Face folders: both ways, damaged ones, and live against transformers."""

import json
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN

from pgjax import trees
from pgjax.checkpoints import hf_export
from pgjax.checkpoints.hf_config import spec_from_config
from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.huggingface import open_folder
from pgjax.checkpoints.json_file import read_json
from pgjax.checkpoints.npz import open_npz, write_npz
from pgjax.errors import UserError
from pgjax.models.paligemma import make_model

HF = GOLDEN / "hf"
TOKENIZER = (GOLDEN / "paligemma_tokenizer.model").read_bytes()


def golden(name="params.npz"):
    return open_npz(GOLDEN / name)


def spec():
    return open_folder(HF)[1]


def same_bits(got, want):
    assert got.keys() == want.keys()
    for name, x in want.items():
        a, b = got[name].read(), x.read()
        assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes()), name


def test_reads_the_released_layout():
    """The reference's own conversion of the same parameters."""
    tensors, sizes = open_folder(HF)
    same_bits(tensors, golden())
    assert sizes["llm"]["vocab_size"] == 1664 and sizes["res"] == 56  # 64 rows were padding


def test_one_layer_is_read_alone():
    tensors, _ = open_folder(HF)
    want = golden()
    for name in ("llm/layers/mlp/gating_einsum", "img/Transformer/encoderblock/LayerNorm_0/bias"):
        np.testing.assert_array_equal(tensors[name].read(1, 2), want[name].read()[1:2])
    table = "llm/embedder/input_embedding"
    np.testing.assert_array_equal(tensors[table].read(1600, None), want[table].read()[1600:])


@pytest.mark.parametrize("shard", [2**31, 150_000])
@pytest.mark.parametrize(
    ("source", "dtype"),
    [("params.npz", None), ("params.npz", "float16"), ("params.bf16.npz", None)],
)
def test_npz_to_folder_to_npz(tmp_path, monkeypatch, source, dtype, shard):
    monkeypatch.setattr(hf_export, "SHARD_BYTES", shard)
    before = golden(source)
    if dtype:
        write_npz(tmp_path / "h.npz", {k: x.read().astype(dtype) for k, x in before.items()})
        before = open_npz(tmp_path / "h.npz")
    write_folder(tmp_path / "hf", before, spec(), tokenizer=TOKENIZER)
    files = [p.name for p in (tmp_path / "hf").glob("*.safetensors")]
    assert len(files) == 1 if shard > 10**9 else len(files) > 2
    tensors, sizes = open_folder(tmp_path / "hf")
    assert sizes == spec()
    write_npz(tmp_path / "back.npz", tensors)
    same_bits(open_npz(tmp_path / "back.npz"), before)


def rename(path, change):
    """Rewrites a safetensors file with other names or contents."""
    from safetensors.numpy import load_file, save_file

    save_file(change(load_file(path)), path)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(HF, tmp_path / "hf")


@pytest.mark.parametrize("style", ["4.52", "5"])
def test_names_that_newer_transformers_write(folder, style):
    def new(name):
        if style == "4.52":
            return f"model.{name.replace('language_model.model.', 'language_model.')}"
        return name.replace("vision_tower.vision_model.", "vision_tower.")

    rename(folder / "model.safetensors", lambda flat: {new(k): x for k, x in flat.items()})
    same_bits(open_folder(folder)[0], golden())


def test_a_repeated_output_layer_is_passed_over_and_another_one_refused(folder):
    def tied(flat):
        return {**flat, "lm_head.weight": flat["language_model.model.embed_tokens.weight"].copy()}

    rename(folder / "model.safetensors", tied)
    same_bits(open_folder(folder)[0], golden())

    def untied(flat):
        flat["lm_head.weight"] = flat["lm_head.weight"] + np.float32(1)
        return flat

    rename(folder / "model.safetensors", untied)
    with pytest.raises(UserError, match=r"lm_head\.weight is not the embedding"):
        open_folder(folder)


def test_everything_missing_or_left_over_is_listed(folder):
    def change(flat):
        del flat["language_model.model.norm.weight"]
        name = "multi_modal_projector.linear.bias"
        flat |= {"adapter.weight": np.zeros(3, np.float32), name: np.zeros(5, np.float32)}
        return flat

    rename(folder / "model.safetensors", change)
    with pytest.raises(UserError) as e:
        open_folder(folder)
    assert str(e.value).splitlines()[1:] == [
        "  + adapter.weight 3 is left over",
        "  - language_model.model.norm.weight 64 is missing",
        "  ! multi_modal_projector.linear.bias has shape 5, expected 64",
    ]


def test_more_rows_than_padding_are_refused(folder):
    def change(flat):
        name = "language_model.model.embed_tokens.weight"
        return {**flat, name: np.pad(flat[name], ((0, 1), (0, 0)))}

    rename(folder / "model.safetensors", change)
    with pytest.raises(UserError, match="embed_tokens.weight has shape 1729x64, expected 1664x64"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="llava"), 'model_type is "llava", expected .paligemma'),
        (
            lambda c: c["text_config"].update(model_type="gemma3"),
            'text_config.model_type is "gemma3", expected .gemma. or',
        ),
        (lambda c: c["vision_config"].update(vision_use_head=True), "vision_use_head is true"),
    ],
)
def test_models_that_pgjax_does_not_have(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        open_folder(folder)


def set_config(folder, key, value):
    """Sets a key such as `text_config.hidden_size`, or removes it if the value is `...`."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    *sections, key = key.split(".")
    section = config[sections[0]] if sections else config
    section.pop(key, None)
    if value is not ...:
        section[key] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("value", ["8", 0, -1, 1.5, True, [], {}, 10**12])
@pytest.mark.parametrize(
    "key",
    ["text_config.hidden_size", "vision_config.num_hidden_layers", "vision_config.patch_size"],
)
def test_sizes_of_another_type_or_range(folder, key, value):
    set_config(folder, key, value)
    with pytest.raises(UserError, match=rf"config\.json: {key} is .*, expected an integer from 1"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("text_config", [], r"text_config is \[\], expected an object"),
        ("vision_config", 3, "vision_config is 3, expected an object"),
        ("text_config", {}, "embed_tokens.weight has shape 1664x64, expected 1664x3072"),
        ("text_config.hidden_size", ..., "embed_tokens.weight has shape .*, expected 1664x3072"),
        ("vision_config", None, "has shape 48, expected 1152"),
        ("text_config.rms_norm_eps", "x", "expected a number of at least 0"),
        ("text_config.rms_norm_eps", float("nan"), "is NaN, expected a number of at least 0"),
        ("text_config.model_type", 3, "text_config.model_type is 3, expected a string"),
        ("vision_config.vision_use_head", 1, "vision_use_head is 1, expected true or false"),
    ],
)
def test_values_of_another_type(folder, key, value, message):
    set_config(folder, key, value)
    with pytest.raises(UserError, match=message):
        open_folder(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("text_config.rope_theta", 1e6, "rope_theta is 1000000.0, expected 10000, the only"),
        (
            "text_config.rope_scaling",
            {"rope_type": "linear", "factor": 2.0},
            "rope_type is .linear",
        ),
        ("text_config.rope_scaling", {"type": "dynamic"}, "rope_scaling.type is .dynamic"),
        ("text_config.rope_scaling", {"factor": 2}, "rope_scaling.factor is 2"),
        ("text_config.rope_parameters", {"rope_theta": 5e5}, "rope_parameters.rope_theta is 5000"),
        (
            "text_config.hidden_activation",
            "gelu",
            "hidden_activation is .gelu., expected .gelu_pyt",
        ),
        ("text_config.hidden_act", "silu", "text_config.hidden_act is .silu"),
        ("text_config.attention_bias", True, "attention_bias is true, expected false"),
        ("text_config.use_bidirectional_attention", False, "use_bidirectional_attention is false"),
        ("vision_config.hidden_act", "quick_gelu", "vision_config.hidden_act is .quick_gelu"),
        ("vision_config.layer_norm_eps", 1e-5, "layer_norm_eps is 1e-05, expected 1e-06"),
        ("vision_config.model_type", "clip_vision_model", "model_type is .clip_vision_model"),
        ("quantization_config", {"load_in_4bit": True}, "a model that is not quantized"),
    ],
)
def test_keys_that_change_what_the_model_computes_are_refused(folder, key, value, message):
    set_config(folder, key, value)
    with pytest.raises(UserError, match=message):
        open_folder(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text_config.rope_theta", 10000),
        ("text_config.rope_scaling", None),
        ("text_config.rope_parameters", {"rope_theta": 10000.0, "rope_type": "default"}),
        ("text_config.hidden_activation", None),
        ("text_config.hidden_activation", "gelu_pytorch_tanh"),
        ("vision_config.layer_norm_eps", 1e-6),
        ("vision_config.hidden_act", "gelu_pytorch_tanh"),
        ("text_config.attention_dropout", 0.1),  # nothing that a prediction depends on
        ("text_config.head_dim", 24),
    ],
)
def test_the_same_keys_with_the_values_of_paligemma(folder, key, value):
    set_config(folder, key, value)
    assert open_folder(folder)[1] == spec()


def test_a_short_window_is_refused_unless_no_layer_has_it(folder):
    set_config(folder, "text_config.model_type", "gemma2")
    set_config(folder, "text_config.sliding_window", 1024)
    with pytest.raises(UserError, match="sliding_window is 1024, expected at least 4096"):
        spec_from_config(read_json(folder / "config.json"))
    set_config(folder, "text_config.layer_types", ["full_attention"] * 2)
    assert spec_from_config(read_json(folder / "config.json"))["llm"]["post_norms"]


def test_sections_that_are_left_out_are_those_of_paligemma(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
    got = spec_from_config(read_json(tmp_path / "config.json"))
    assert got == {
        "res": 224,
        "img": {"width": 1152, "depth": 27, "mlp_dim": 4096, "num_heads": 16,
                "patch_size": (14, 14)},
        "llm": {"width": 2048, "depth": 18, "mlp_dim": 16384, "num_heads": 8, "num_kv_heads": 1,
                "head_dim": 256, "vocab_size": 256000, "norm_eps": 1e-6},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["gemma", "gemma2"])
@pytest.mark.torch
def test_keys_that_are_left_out_have_the_values_of_transformers(tmp_path, kind):
    hf = transformers()
    text, vision = {"model_type": kind}, {"model_type": "siglip_vision_model", "image_size": 256}
    theirs = hf.PaliGemmaConfig(text_config=dict(text), vision_config=dict(vision))
    config = {"model_type": "paligemma", "text_config": text, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(config))
    got = spec_from_config(read_json(tmp_path / "config.json"))
    t, v = theirs.text_config, theirs.vision_config
    layers = (t.hidden_size, t.num_hidden_layers, t.intermediate_size)
    heads = (t.num_attention_heads, t.num_key_value_heads, t.head_dim)
    want = (*layers, *heads, theirs.image_token_index, t.rms_norm_eps)
    assert tuple(got["llm"].values())[:8] == want
    assert got["img"]["width"] == v.hidden_size and got["img"]["depth"] == v.num_hidden_layers
    assert got["img"]["mlp_dim"] == v.intermediate_size
    assert got["img"]["num_heads"] == v.num_attention_heads
    assert got["img"]["patch_size"] == (v.patch_size, v.patch_size) and got["res"] == 256


@pytest.mark.parametrize(
    ("value", "cap"), [(..., 50.0), (None, 0.0), (0.5, 0.5)], ids=["absent", "null", "given"]
)
def test_soft_caps_that_are_left_out_are_those_of_transformers(folder, value, cap):
    set_config(folder, "text_config.model_type", "gemma2")
    set_config(folder, "text_config.attn_logit_softcapping", value)
    spec = spec_from_config(read_json(folder / "config.json"))
    assert spec["llm"]["attn_softcap"] == cap
    assert spec["llm"]["final_softcap"] == 30.0 and spec["llm"]["query_scale"] == 256**-0.5


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "holds a JSON list, expected an object"),
        ({}, "weight_map is missing, expected an object"),
        ({"weight_map": {"a": 3}}, "weight_map.a is 3, expected a string"),
        ({"weight_map": {"a": "../x"}}, 'is "../x", expected the name of a file in this folder'),
    ],
)
def test_broken_indices(folder, index, message):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        open_folder(folder)


def test_broken_folders(folder, tmp_path):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:5000])
    with pytest.raises(UserError, match=r"model\.safetensors is not a readable safetensors file"):
        open_folder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds neither model\.safetensors nor"):
        open_folder(folder)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors is missing"):
        open_folder(folder)
    (folder / "config.json").write_text("{oops")
    with pytest.raises(UserError, match=r"config\.json:1 is not JSON"):
        open_folder(folder)
    with pytest.raises(UserError, match="not a Hugging Face folder"):
        open_folder(tmp_path)
    with pytest.raises(UserError, match="exists already"):
        write_folder(folder, golden(), {})


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(UserError, match="could not be written.*No space left"):
        write_folder(tmp_path / "hf", golden(), spec(), tokenizer=TOKENIZER)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rows_of_padding_never_win(tmp_path, dtype):
    write_folder(tmp_path / "hf", golden(), spec(), dtype=dtype, tokenizer=TOKENIZER)
    from safetensors import safe_open

    with safe_open(tmp_path / "hf" / "model.safetensors", "np") as f:
        table = f.get_tensor("language_model.model.embed_tokens.weight").astype(np.float64)
    hidden = np.random.default_rng(0).normal(size=(500, 64)) * 10
    logits = hidden @ table.T
    assert table.shape == (1728, 64)
    assert (logits[:, 1664:].max(axis=1) < logits[:, :1664].max(axis=1)).all()
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share = share[:, 1664:].sum(axis=1) / share.sum(axis=1)
    assert share.max() < 64 / 1728 and np.median(share) < 1e-3
    settings = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert settings["suppress_tokens"] == list(range(1664, 1728))


def test_files_have_the_modes_of_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_folder(tmp_path / "hf", golden(), spec(), tokenizer=TOKENIZER)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "hf").iterdir()} == {0o644}


# ---- live, where torch and transformers are installed --------------------------------------------


def transformers():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def variables(tensors):
    return {"params": trees.unflatten({k: jnp.asarray(x.read()) for k, x in tensors.items()})}


def random_gemma2(seed=0, attn_softcap=1.0, final_softcap=3.0):
    """A small PaliGemma 2 with random weights: (tensors, spec)."""
    from pgjax.checkpoints.tensors import InMemory
    from pgjax.models.paligemma import init_params

    sizes = spec()
    sizes["llm"] |= {
        "post_norms": True, "attn_softcap": attn_softcap, "final_softcap": final_softcap,
        "query_scale": 24**-0.5,
    }  # fmt: skip
    flat = trees.flatten(init_params(make_model(sizes), jax.random.key(seed)))
    rng = np.random.default_rng(seed)
    return {
        k: InMemory(np.asarray(x) + rng.normal(size=x.shape).astype(np.float32) * 0.05)
        for k, x in flat.items()
    }, sizes


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["gemma", "gemma2"])
def test_transformers_agrees(tmp_path, kind):
    """Logits of prompts with padding to 5e-5, and the same greedy tokens."""
    hf = transformers()
    import torch

    tensors, sizes = (golden(), spec()) if kind == "gemma" else random_gemma2()
    write_folder(tmp_path / "hf", tensors, sizes, tokenizer=TOKENIZER)
    theirs = hf.PaliGemmaForConditionalGeneration.from_pretrained(
        tmp_path / "hf", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    processor = hf.AutoProcessor.from_pretrained(tmp_path / "hf")
    model, params = make_model(sizes), variables(tensors)

    image = np.random.default_rng(0).integers(0, 256, (56, 56, 3), np.uint8)
    inputs = processor(text="<image>caption en <loc0012>", images=image, return_tensors="pt")
    text = inputs["input_ids"][0, 16:].numpy().astype(np.int32)
    from pgjax.text.tokenizer import Tokenizer

    tokenizer = Tokenizer(TOKENIZER)
    ours = tokenizer.encode("caption en <loc0012>", bos=True) + list(tokenizer.newline_ids)
    assert text.tolist() == ours
    pixels = image.astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(
        inputs["pixel_values"][0].numpy().transpose(1, 2, 0), pixels, atol=1e-5
    )

    arrays = (
        jnp.asarray(pixels[None]),
        jnp.asarray(text[None]),
        jnp.zeros((1, len(text)), jnp.int32),
    )
    hidden = model.apply(params, *arrays)
    got = np.asarray(model.apply(params, hidden, method="logits"))
    with torch.no_grad():
        want = theirs(**inputs).logits[:, 16:, :1664].numpy()
        generated = theirs.generate(**inputs, max_new_tokens=8, do_sample=False)
    # Between prompts the mask of the prefix differs only by what comes later; compare the last.
    np.testing.assert_allclose(got[:, -1], want[:, -1], atol=5e-5)

    logits, cache = model.apply(
        params, *arrays, jnp.ones((1, len(text)), bool),
        max_new_tokens=8, cache_dtype="float32", method="prefill",
    )  # fmt: skip
    tokens = []
    for _ in range(8):
        tokens.append(int(logits.argmax()))
        if tokens[-1] == 1:
            break
        logits, cache = model.apply(
            params, jnp.asarray(tokens[-1:], jnp.int32), cache, method="extend"
        )
    assert generated[0, 16 + len(text) :].tolist() == tokens


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("cap", [30.0, 0.0])
def test_training_of_paligemma_2_agrees(tmp_path, cap):
    """Logits of prompt and target, the loss, and the gradient of every parameter."""
    hf = transformers()
    import torch
    from safetensors.numpy import load_file

    from pgjax.checkpoints.tensors import InMemory
    from pgjax.models.loss import make_loss

    tensors, sizes = random_gemma2(attn_softcap=50.0, final_softcap=cap)
    # Logits that are large enough for the cap to tell, as 10 becomes 9.6.
    tensors["llm/final_norm/scale"] = InMemory(tensors["llm/final_norm/scale"].read() + 4.0)
    write_folder(tmp_path / "hf", tensors, sizes, tokenizer=TOKENIZER)
    theirs = hf.PaliGemmaForConditionalGeneration.from_pretrained(
        tmp_path / "hf", dtype=torch.float32, attn_implementation="eager"
    ).train()
    processor = hf.AutoProcessor.from_pretrained(tmp_path / "hf")
    image = np.random.default_rng(1).integers(0, 256, (56, 56, 3), np.uint8)
    inputs = processor(
        text="<image>caption en", suffix="a <loc0012> bee", images=image, return_tensors="pt"
    )
    out = theirs(**inputs)
    out.loss.backward()

    def row(x, dtype=np.int32):
        return jnp.asarray(x[:, 16:].numpy().astype(dtype))

    pixels = jnp.asarray(inputs["pixel_values"].numpy().transpose(0, 2, 3, 1))
    text, after = row(inputs["input_ids"]), row(inputs["token_type_ids"])
    model, flat = make_model(sizes), {k: jnp.asarray(x.read()) for k, x in tensors.items()}
    hidden = model.apply({"params": trees.unflatten(flat)}, pixels, text, after)
    got = model.apply({"params": trees.unflatten(flat)}, hidden, method="logits")
    want = out.logits[:, 16:, :1664].detach().numpy()
    assert 10 < np.abs(want).max() < 30
    last = np.flatnonzero(np.asarray(after[0]))[0] - 1  # where the target begins
    np.testing.assert_allclose(got[:, last:], want[:, last:], rtol=1e-5, atol=5e-5)

    batch = {"image": pixels, "text": text, "mask_ar": after, "mask_loss": after}
    loss = make_loss(model, label_smoothing=0.0, chunk=3)
    (value, _), grads = jax.jit(
        jax.value_and_grad(lambda p: loss(p, {}, batch, jnp.ones(1), None), has_aux=True)
    )(flat)
    assert float(value) == pytest.approx(float(out.loss), rel=1e-5)
    wrapped = {k: InMemory(np.asarray(x)) for k, x in grads.items()}
    write_folder(tmp_path / "grads", wrapped, sizes, tokenizer=TOKENIZER)
    ours = load_file(tmp_path / "grads" / "model.safetensors")
    names = dict(theirs.named_parameters())
    largest = max(x.grad.abs().max().item() for x in names.values())
    compared, differing = 0, {}
    for name, want in names.items():
        key = min((k for k in ours if name.endswith(k.split("model.", 1)[-1])), key=len, default="")
        assert key, name
        rows = min(len(want), 1664) if "embed_tokens" in name else len(want)
        # A bias of keys shifts all logits of a query alike, so that its gradient is 0.
        bias = name.endswith("k_proj.bias")
        scale = largest if bias else want.grad.abs().max().item()
        error = np.abs(ours[key][:rows] - want.grad[:rows].numpy()).max() / scale
        compared += 1
        if error > 1e-5:
            differing[name] = error
    assert compared == len(ours) and not differing
