"""A checkpoint's name and the sizes of the model go together."""

import pytest

import pgjax
from pgjax.checkpoints.released import RELEASES
from pgjax.config.init_sizes import variants_of
from pgjax.errors import ConfigError

DECODERS = {"3b": "gemma2_2b", "10b": "gemma2_9b", "28b": "gemma2_27b"}


@pytest.mark.parametrize("name", RELEASES)
def test_every_released_name_is_known(name):
    size = name.split("-")[1] if name.startswith("paligemma2") else ""
    assert variants_of(name) == {"img": "So400m/14", "llm": DECODERS.get(size, "gemma_2b")}


@pytest.mark.parametrize("name", ["", "mine.npz", "runs/pt-224", "pt-224/", "paligemma2-3b"])
def test_other_names_say_nothing(name):
    assert variants_of(name) is None


def test_init_brings_its_decoder_along():
    config = pgjax.read_config("forkme", {"init": "paligemma2-10b-pt-224"})
    assert config.model.llm.variant == "gemma2_9b"
    config = pgjax.read_config("vqav2:init=paligemma2-3b-pt-224")
    assert config.model.llm.variant == "gemma2_2b"
    config = pgjax.read_config("forkme", {"init": "paligemma2-3b-pt-224", "model.llm.dropout": 0.1,
                                          "model.llm.variant": "gemma2_2b"})  # fmt: skip
    assert dict(config.model.llm) == {"variant": "gemma2_2b", "dropout": 0.1}


@pytest.mark.parametrize("cap", [None, 0.0, 30.0])
def test_transfers_of_paligemma_2_leave_logits_uncapped_unless_a_flag_says_so(cap):
    flag = {} if cap is None else {"model.llm.final_softcap": cap}
    for text, init in (("forkme", {"init": "paligemma2-3b-pt-224"}), ("forkme:variant=pg2-3b", {})):
        config = pgjax.read_config(text, init | flag)
        assert config.init == "paligemma2-3b-pt-224"
        assert dict(config.model.llm) == {
            "variant": "gemma2_2b", "dropout": 0.0, "final_softcap": cap or 0.0,
        }  # fmt: skip
    assert pgjax.read_config("forkme:variant=pg2-3b", {"init": "pt-224"}).model.llm.variant == (
        "gemma_2b"
    )


def test_the_file_names_of_kaggle():
    for name in ("paligemma2-10b-mix-448.b16.npz", "paligemma-3b-pt-224.f16.npz"):
        decoder = "gemma2_9b" if "10b" in name else "gemma_2b"
        assert variants_of(name) == {"img": "So400m/14", "llm": decoder}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": "paligemma2-3b-pt-224", "model.llm.variant": "gemma_2b"},
         r"config.init is 'paligemma2-3b-pt-224', whose llm is of the variant 'gemma2_2b', but "
         r"config.model.llm is .*--config.model.llm.variant=gemma2_2b"),
        ({"model.llm.variant": "gemma2_2b"}, r"config.init is 'pt-224', whose llm"),
        ({"init": "tiny"}, r"config.init is 'tiny', whose img is of the variant 'tiny/8'"),
        ({"model.img": {"variant": "So400m/14", "depth": 3}}, r"whose img is of the variant"),
    ],
)  # fmt: skip
def test_sizes_that_are_not_those_of_init(changes, message):
    with pytest.raises(ConfigError, match=message) as e:
        pgjax.read_config("forkme", changes)
    assert str(e.value).count(". ") == 0 and str(e.value).endswith(".")


def test_plain_dicts_are_checked_as_well(tmp_path):
    from pgjax.training.loop import train

    with pytest.raises(ConfigError, match=r"config.init is 'mix-224'"):
        train({"init": "mix-224", "model": {"llm": {"variant": "gemma2_2b"}}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
