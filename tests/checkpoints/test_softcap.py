"""The cap of PaliGemma 2's final logits, wherever a model is stored, trained and answered with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import trees
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.npz import open_npz, write_npz
from pgjax.loading.export import export, open_source
from pgjax.models.paligemma import init_params, make_model
from pgjax.recipes.transfer import VARIANTS


@pytest.fixture(scope="module")
def flat():
    v = VARIANTS["pg2-tiny"]
    model = make_model({"res": v["res"], "img": v["img"], "llm": v["llm"]})
    return {
        k: np.asarray(x) for k, x in trees.flatten(init_params(model, jax.random.key(0))).items()
    }


@pytest.mark.parametrize("cap", [0.0, 30.0])
def test_a_file_says_it_and_keeps_it_through_conversions(tmp_path, flat, cap):
    write_npz(tmp_path / "a.npz", flat, {"final_softcap": cap})
    assert open_npz(tmp_path / "a.npz").keys() == flat.keys()
    source = str(tmp_path / "a.npz")
    for name in ("hf", "b.npz"):
        export(open_source(source, "tiny"), tmp_path / name, dtype=None, delta=False, adapter=False)
        source = str(tmp_path / name)
        assert open_checkpoint(source).spec["llm"]["final_softcap"] == cap


def test_files_that_do_not_say_it(tmp_path, flat):
    """Released ones: pretrained with it, and tuned without."""
    for name, cap in (("paligemma2-3b-pt-224.b16.npz", 30.0), ("my.npz", 30.0),
                      ("paligemma2-3b-ft-docci-448.b16.npz", 0.0)):  # fmt: skip
        write_npz(tmp_path / name, flat)
        assert open_checkpoint(str(tmp_path / name)).spec["llm"]["final_softcap"] == cap


@pytest.mark.parametrize("quantize", [None, "int8", "nf4"])
def test_logits_while_answering(tmp_path, flat, quantize):
    """Of prefill and the tokens after it, with a quantized decoder too."""
    import pgjax

    flat = {**flat, "llm/final_norm/scale": flat["llm/final_norm/scale"] + 40.0}
    logits = {}
    for cap in (0.0, 30.0):
        write_npz(tmp_path / f"{cap}.npz", flat, {"final_softcap": cap})
        model = pgjax.load(tmp_path / f"{cap}.npz", tokenizer="tiny", quantize=quantize)
        variables = {"params": trees.unflatten(model.params)}
        text = jnp.asarray([[2, 5, 6]], jnp.int32)
        first, cache = model.context.model.apply(
            variables, jnp.zeros((1, 64, 64, 3)), text, jnp.zeros_like(text),
            jnp.ones((1, 3), bool), max_new_tokens=2, cache_dtype="float32", method="prefill",
        )  # fmt: skip
        second, _ = model.context.model.apply(
            variables, jnp.asarray([7], jnp.int32), cache, method="extend"
        )
        logits[cap] = np.stack([first, second])
    assert np.abs(logits[0.0]).max() > 15
    np.testing.assert_allclose(logits[30.0], 30 * np.tanh(logits[0.0] / 30), atol=1e-4)
