"""The storage of parameters: dtypes and kinds of quantization, without a device."""

import dataclasses

import jax.numpy as jnp
import pytest

import pgjax
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.config import parse_config
from pgjax.loading.model_context import for_answering, open_sharded_model
from pgjax.loading.storage import answering_dtypes, storage_dtypes, with_quantized
from pgjax.models.quantized import Quantized

MATRIX = "llm/layers/mlp/linear"
TOWER = "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel"


@pytest.fixture(scope="module")
def checkpoint():
    return open_checkpoint("tiny")


@pytest.fixture(scope="module")
def sharded(checkpoint):
    config = parse_config({"model": {**checkpoint.spec, "remat": "none"}})
    return open_sharded_model(for_answering(config, None))


def test_training_stores_what_it_trains_in_its_own_dtype(sharded):
    config = dataclasses.replace(
        sharded.config, frozen_dtype="float16", trainable_dtype="float32", quantize="nf4"
    )
    run = dataclasses.replace(sharded, config=config)
    trained = ["llm/layers/attn/q_einsum/w", "img/head/bias"]
    stored = storage_dtypes(run, trained)
    assert stored.keys() == sharded.shapes.keys()
    assert all(stored[name] == "float32" for name in trained)
    assert stored[MATRIX] == "nf4" and stored[TOWER] == "float16"
    images = dataclasses.replace(sharded, config=dataclasses.replace(config, quantize_images=True))
    assert storage_dtypes(images, trained)[TOWER] == "nf4"
    plain = dataclasses.replace(sharded, config=dataclasses.replace(config, quantize=""))
    assert set(storage_dtypes(plain, trained).values()) == {"float16", "float32"}


def test_inference_keeps_the_dtypes_of_the_file(sharded, checkpoint):
    stored = answering_dtypes(sharded, checkpoint.tensors, None)
    assert stored[MATRIX] == str(checkpoint.tensors[MATRIX].dtype) == "float16"
    assert stored["img/head/bias"] == stored["llm/final_norm/scale"] == "float32"
    assert answering_dtypes(sharded, {}, None)[MATRIX] == "float32"
    assert answering_dtypes(sharded, checkpoint.tensors, "bfloat16")[MATRIX] == "bfloat16"


def test_quantized_matrices_keep_their_kind(sharded, checkpoint):
    before = answering_dtypes(sharded, checkpoint.tensors, None)
    assert with_quantized(before, sharded, None, False) == before
    nf4 = with_quantized(before, sharded, "nf4", False)
    changed = {name for name in before if nf4[name] != before[name]}
    assert MATRIX in changed and TOWER not in changed
    assert all(name.startswith("llm/layers/") and nf4[name] == "nf4" for name in changed)
    both = with_quantized(nf4, sharded, "int8", True)
    assert both[MATRIX] == "nf4" and both[TOWER] == "int8"


@pytest.mark.parametrize(("kind", "images"), [("int4", False), ("int8", True)])
def test_loaded_parameters_are_stored_so(sharded, checkpoint, kind, images):
    model = pgjax.load("tiny", quantize=kind, quantize_images=images)
    stored = with_quantized(
        answering_dtypes(sharded, checkpoint.tensors, None), sharded, kind, images
    )
    layers = model.params[MATRIX].layers
    assert all(type(x).__name__.lower() == kind for x in layers)
    assert isinstance(model.params[TOWER], Quantized) == images == (stored[TOWER] == kind)
    assert model.params["img/head/kernel"].dtype == jnp.dtype(stored["img/head/kernel"])
