"""Adapters in the layout of peft: names, both ways, damaged ones, and live against peft."""

import dataclasses
import functools
import json
import os

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from safetensors.numpy import load_file, save_file

from pgjax import trees
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.huggingface import open_folder
from pgjax.checkpoints.peft import adapter_table, merged, open_adapter, write_adapter
from pgjax.checkpoints.tensors import InMemory
from pgjax.errors import UserError
from pgjax.models.lora import Lora, is_adapter
from pgjax.models.paligemma import abstract_params, make_model

HF = GOLDEN / "hf"
LORA = {"rank": 3, "alpha": 6.0, "rslora": False, "dropout": 0.0}
HEAD = "multi_modal_projector.linear.weight"


@functools.cache
def spec():
    return open_folder(HF)[1]


def model(**lora):
    return make_model({**spec(), "lora": {**LORA, "targets": ".*", **lora}})


@functools.cache
def adapters():
    """Random ones for every matrix of both towers."""
    rng = np.random.default_rng(0)
    flat = trees.flatten(nn.unbox(abstract_params(model())))
    return {
        name: InMemory((rng.normal(size=x.shape) * 0.2).astype(np.float32))
        for name, x in flat.items()
        if is_adapter(name)
    }


def write(folder, tensors=None, **kwargs):
    write_adapter(folder, tensors or adapters(), spec(), {**LORA, **kwargs}, base=str(HF))
    return folder


def opened(folder):
    return open_adapter(folder, spec(), open_folder(HF)[0])


def change_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def test_the_table_has_the_shapes_of_the_model():
    table = {e.name: e for e in adapter_table(spec(), 3)}
    assert table.keys() == adapters().keys()
    for name, x in adapters().items():
        entry = table[name]
        part = entry.layers[0][0]
        lead = (len(entry.layers), 2) if entry.split else (len(entry.layers),)
        assert (*lead, *part.shape) == x.shape, name


def test_names_and_shapes_in_the_file(tmp_path):
    """Those of peft 0.21 on transformers 5.23."""
    stored = load_file(write(tmp_path / "a") / "adapter_model.safetensors")
    decoder = "base_model.model.model.language_model.layers.2."
    tower = "base_model.model.model.vision_tower.encoder.layers.1."
    want = {
        f"{decoder}self_attn.q_proj.lora_A.weight": (3, 64),
        f"{decoder}self_attn.q_proj.lora_B.weight": (96, 3),
        f"{decoder}self_attn.v_proj.lora_B.weight": (24, 3),
        f"{decoder}self_attn.o_proj.lora_A.weight": (3, 96),
        f"{decoder}mlp.gate_proj.lora_B.weight": (136, 3),
        f"{decoder}mlp.down_proj.lora_A.weight": (3, 136),
        f"{tower}self_attn.out_proj.lora_A.weight": (3, 48),
        f"{tower}mlp.fc1.lora_B.weight": (104, 3),
    }
    assert {name: stored[name].shape for name in want} == want
    assert len(stored) == 2 * (3 * 7 + 2 * 6)
    # The up projection is the second half of what is one parameter here.
    x = adapters()["llm/layers/mlp/gating_einsum_lora_a"].read()
    np.testing.assert_array_equal(stored[f"{decoder}mlp.up_proj.lora_A.weight"], x[2, 1].T)


def test_there_and_back(tmp_path):
    folder = write(tmp_path / "a", alpha=5.0, rslora=True, dropout=0.1)
    tensors, lora = opened(folder)
    assert tensors.keys() == adapters().keys()
    for name, x in adapters().items():
        np.testing.assert_array_equal(tensors[name].read(), x.read(), err_msg=name)
    targets = lora.pop("targets")
    assert lora == {"rank": 3, "alpha": 5.0, "rslora": True, "dropout": 0.1}
    again = trees.flatten(abstract_params(model(targets=targets)))
    assert {n for n in again if is_adapter(n)} == tensors.keys()


def test_on_top_of_its_base(tmp_path):
    folder = write(tmp_path / "a")
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.spec["lora"]["rank"] == 3 and checkpoint.root == str(HF)
    names = trees.flatten(abstract_params(make_model(checkpoint.spec))).keys()
    assert checkpoint.tensors.keys() == names
    change_config(folder, base_model_name_or_path="../gone.npz")
    with pytest.raises(UserError, match=r"'../gone.npz' is neither a path .* give the base"):
        open_checkpoint(str(folder))
    change_config(folder, base_model_name_or_path="someone/else")
    with pytest.raises(UserError, match="someone/else is no path that exists, and someone/else"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), base=str(HF)).tensors.keys() == names
    change_config(folder, base_model_name_or_path="google/paligemma-3b-pt-224", revision="float16")
    with pytest.raises(UserError, match=r"pt-224\.f16"):  # offline: it is looked for, not found
        open_checkpoint(str(folder))
    with pytest.raises(UserError, match="is no adapter of peft"):
        open_checkpoint("tiny", base=str(HF))


def test_the_projector_comes_along(tmp_path):
    base = open_folder(HF)[0]
    head = {
        f"img/head/{n}": InMemory(base[f"img/head/{n}"].read() + np.float32(1))
        for n in ("kernel", "bias")
    }
    folder = write(tmp_path / "a", {**adapters(), **head})
    assert json.loads((folder / "adapter_config.json").read_text())["modules_to_save"] == [
        "multi_modal_projector"
    ]
    tensors, _ = opened(folder)
    for name, x in head.items():
        np.testing.assert_array_equal(tensors[name].read(), x.read())
    with pytest.raises(UserError, match="'llm/final_norm/scale'.* were trained too"):
        write(tmp_path / "b", {**adapters(), "llm/final_norm/scale": InMemory(np.zeros(64))})


def test_one_of_two_matrices(tmp_path):
    """peft may adapt values and not keys; pgjax keeps both in one parameter."""
    folder = write(tmp_path / "a")
    change_weights(folder, lambda flat: {k: x for k, x in flat.items() if "v_proj" in k})
    tensors, lora = opened(folder)
    assert len(tensors) == 2 + 2 and "kv_einsum" in lora["targets"]
    for factor in "ab":
        x = tensors[f"llm/layers/attn/kv_einsum/w_lora_{factor}"].read()
        want = adapters()[f"llm/layers/attn/kv_einsum/w_lora_{factor}"].read()
        np.testing.assert_array_equal(x[:, 1], want[:, 1])
        assert not x[:, 0].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, 'peft_type is "IA3", expected .LORA'),
        ({"use_dora": True}, "use_dora is True, which pgjax does not support"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern is"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base as well"),
        ({"r": "4"}, 'r is "4", expected an integer from 1'),
        ({"r": 10**9}, "r is 1000000000, expected an integer from 1 to"),
        ({"lora_alpha": None}, "lora_alpha is null, expected a number"),
        ({"use_rslora": "yes"}, 'use_rslora is "yes", expected true or false'),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path is 3, expected a string"),
        ({"r": 4}, r"q_proj\.lora_A\.weight has shape 3x64, expected 4x64"),
    ],
)
def test_adapters_that_pgjax_does_not_have(tmp_path, change, message):
    folder = write(tmp_path / "a")
    change_config(folder, **change)
    with pytest.raises(UserError, match=message):
        opened(folder)


def test_a_chosen_layer_needs_both_factors(tmp_path):
    folder = write(tmp_path / "a")
    layer = "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_"
    change_weights(folder, lambda flat: {k: x for k, x in flat.items() if k.startswith(layer)})
    with pytest.raises(UserError, match=r"- language_model\.model\.layers\.0\.self_attn"):
        opened(folder)
    change_config(folder, layers_to_transform=[1])
    tensors, _ = opened(folder)
    x = tensors["llm/layers/attn/q_einsum/w_lora_b"].read()
    assert x[1].any() and not x[0].any() and not x[2].any()
    change_weights(folder, lambda flat: {k: x for k, x in flat.items() if "lora_A" in k})
    with pytest.raises(UserError, match=r"- .*layers\.1\.self_attn\.q_proj\.lora_B\.weight 96x3"):
        opened(folder)


def test_broken_adapters(tmp_path):
    folder = write(tmp_path / "a")
    lost = "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_B.weight"
    change_weights(folder, lambda flat: {k: x for k, x in flat.items() if k != lost} | {
        "base_model.model.model.other.weight": np.zeros((2, 2), np.float32)
    })  # fmt: skip
    with pytest.raises(UserError) as e:
        opened(folder)
    assert "- language_model.model.layers.1.self_attn.q_proj.lora_B.weight" in str(e.value)
    assert "+ other.weight 2x2 is left over" in str(e.value)
    change_weights(folder, lambda flat: {"x": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="adapts no matrix of this model"):
        opened(folder)
    with pytest.raises(UserError, match="exists already"):
        write(folder)


PREFIX = "base_model.model.model."
LINEAR = f"{PREFIX}multi_modal_projector.linear."


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_of_the_projector_is_merged(tmp_path, rslora):
    """As target_modules="all-linear" makes it."""
    folder = write(tmp_path / "a")
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=x).astype(np.float32) for x in ((3, 48), (64, 3)))
    new = {f"{LINEAR}lora_A.weight": a, f"{LINEAR}lora_B.weight": b}
    change_weights(folder, lambda flat: {**flat, **new})
    change_config(folder, lora_alpha=5, use_rslora=rslora)
    tensors, lora = opened(folder)
    kernel = open_folder(HF)[0]["img/head/kernel"].read()
    want = kernel + 5 / (3**0.5 if rslora else 3) * (b @ a).T
    np.testing.assert_allclose(tensors["img/head/kernel"].read(), want, atol=1e-5)
    assert "img/head" not in lora["targets"]
    found = open_checkpoint(str(folder), base=str(HF))
    names = trees.flatten(abstract_params(make_model(found.spec))).keys()
    assert found.tensors.keys() == names
    change_weights(folder, lambda flat: {k: x for k, x in flat.items() if "linear.lora_B" not in k})
    with pytest.raises(UserError, match=r"- multi_modal_projector\.linear\.lora_B\.weight 64x3 is"):
        opened(folder)


@pytest.mark.parametrize("padding", [0, 64])
def test_a_trained_embedding(tmp_path, padding):
    folder = write(tmp_path / "a")
    table = np.random.default_rng(2).normal(size=(1664 + padding, 64)).astype(np.float32)
    trained = {f"{PREFIX}language_model.embed_tokens.weight": table}
    change_weights(folder, lambda flat: {**flat, **trained})
    with pytest.raises(UserError, match="embed_tokens.weight alone, .*ensure_weight_tying"):
        opened(folder)
    output = {"base_model.model.lm_head.weight": table.copy()}
    change_weights(folder, lambda flat: {**flat, **output})
    got = opened(folder)[0]["llm/embedder/input_embedding"].read()
    np.testing.assert_array_equal(got, table[:1664])
    output["base_model.model.lm_head.weight"][7] += 1
    change_weights(folder, lambda flat: {**flat, **output})
    with pytest.raises(UserError, match="lm_head.weight is not the embedding"):
        opened(folder)
    change_weights(folder, lambda flat: {k: x for k, x in flat.items() if "embed_tokens" not in k})
    with pytest.raises(UserError, match="trained lm_head.weight alone"):
        opened(folder)


def test_a_pickled_adapter_says_the_way_out(tmp_path):
    folder = write(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="adapter_model.bin, which is a pickle .* save it again"):
        opened(folder)


def test_files_have_the_modes_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        folder = write(tmp_path / "a")
    finally:
        os.umask(before)
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {
        "adapter_config.json": "0o640", "adapter_model.safetensors": "0o640",
    }  # fmt: skip


def test_an_adapter_on_top_of_itself(tmp_path):
    folder = write(tmp_path / "a")
    change_config(folder, base_model_name_or_path=str(folder))
    with pytest.raises(UserError, match="give the base"):
        open_checkpoint(str(folder))
    with pytest.raises(UserError, match="on top of itself"):
        open_checkpoint(str(folder), base=str(folder))
    other = write(tmp_path / "b")
    change_config(folder, base_model_name_or_path="../b")
    change_config(other, base_model_name_or_path="../a")
    with pytest.raises(UserError, match="on top of itself"):
        open_checkpoint(str(folder))


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("tied", [False, True])
def test_all_linear_of_peft_agrees(tmp_path, tied):
    """Logits of peft's own model, of which every adapter is random."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    theirs = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
        HF, dtype=torch.float32, attn_implementation="eager"
    )
    options = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True} if tied else {}
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", **options)
    theirs = peft.get_peft_model(theirs, config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, x in theirs.named_parameters():
            if "lora_" in name or ("modules_to_save" in name and "embed_tokens" in name):
                x.add_(torch.randn(x.shape) * 0.05)
    theirs.save_pretrained(tmp_path / "a")
    image, text = inputs()
    tokens = torch.tensor(np.concatenate([np.full((1, 16), 1664), text], axis=1))
    with torch.no_grad():
        want = theirs(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            token_type_ids=torch.zeros_like(tokens),
            pixel_values=torch.tensor(image.transpose(0, 3, 1, 2).copy()),
        ).logits[0, -1, :1664]
    found = open_checkpoint(str(tmp_path / "a"), base=str(HF))
    got = logits(make_model(found.spec), found.tensors, image, text)[0, -1]
    np.testing.assert_allclose(got, want.numpy(), atol=5e-5)


def variables(tensors):
    return {"params": trees.unflatten({k: jnp.asarray(x.read()) for k, x in tensors.items()})}


def logits(module, tensors, image, text):
    params = variables(tensors)
    arrays = jnp.asarray(image), jnp.asarray(text), jnp.zeros(text.shape, jnp.int32)
    return np.asarray(
        module.apply(params, module.apply(params, *arrays), method=type(module).logits)
    )


def inputs():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (1, 56, 56, 3)).astype(np.float32)
    return image, np.int32([[2, 17, 300, 41, 108]])


def test_merged_is_unmerged():
    """In float32, within 1e-5 of the largest logit."""
    base, _ = open_folder(HF)
    whole = {**base, **adapters()}
    small = {n: dataclasses.replace(x, array=x.array * 0.2) for n, x in adapters().items()}
    whole |= small
    lora = Lora(**LORA)
    plain = merged(whole, spec(), lora.scale)
    assert plain.keys() == base.keys()
    want = logits(model(), whole, *inputs())
    np.testing.assert_allclose(
        logits(make_model(spec()), plain, *inputs()), want, atol=1e-5 * np.abs(want).max()
    )
    assert np.abs(want - logits(make_model(spec()), base, *inputs())).max() > 0.1


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_peft_agrees(tmp_path):
    """Ours read by peft, and peft's read by us, on top of the same base."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")

    def base():
        return transformers.PaliGemmaForConditionalGeneration.from_pretrained(
            HF, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    image, text = inputs()
    tokens = torch.tensor(np.concatenate([np.full((1, 16), 1664), text], axis=1))
    pixels = torch.tensor(image.transpose(0, 3, 1, 2).copy())

    def theirs(module):
        with torch.no_grad():
            out = module(
                input_ids=tokens,
                pixel_values=pixels,
                attention_mask=torch.ones_like(tokens),
                token_type_ids=torch.zeros_like(tokens),  # all of it is prefix
            )
        return out.logits[0, -1, :1664].numpy()

    tensors = {n: dataclasses.replace(x, array=x.array * 0.2) for n, x in adapters().items()}
    head = {n: x for n, x in open_folder(HF)[0].items() if n.startswith("img/head/")}
    head = {n: InMemory(x.read() * np.float32(1.1)) for n, x in head.items()}
    folder = write(tmp_path / "ours", {**tensors, **head}, rslora=True)
    got = theirs(peft.PeftModel.from_pretrained(base(), folder).eval())
    ours = {**open_folder(HF)[0], **tensors, **head}
    want = logits(model(rslora=True), ours, image, text)[0, -1]
    np.testing.assert_allclose(got, want, atol=5e-5)
    assert np.abs(got - theirs(base())).max() > 0.1

    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM",
        modules_to_save=["multi_modal_projector"], init_lora_weights=False,
    )  # fmt: skip
    module = peft.get_peft_model(base(), config).eval()
    module.save_pretrained(tmp_path / "theirs")
    checkpoint = open_checkpoint(str(tmp_path / "theirs"))
    got = logits(make_model(checkpoint.spec), checkpoint.tensors, image, text)[0, -1]
    want = theirs(module)
    np.testing.assert_allclose(got, want, atol=1e-5 * max(np.abs(want).max(), 5))
