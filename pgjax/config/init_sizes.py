"""The sizes of the checkpoints that `init` can name, and whether a config's model has them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pgjax.config import named
from pgjax.config.sections import RunConfig
from pgjax.errors import ConfigError

_KIND = r"(pt|mix|ft-[\w-]+)-\d+(\.(f16|bf16|b16))?"
_FILE = rf"{_KIND}(\.npz)?"
# Names, as `pgjax list checkpoints` shows them -> variants of the image tower and of the decoder.
_VARIANTS = (
    (r"tiny", ("tiny/8", "gemma_tiny")),
    (rf"paligemma2-3b-{_FILE}", ("So400m/14", "gemma2_2b")),
    (rf"paligemma2-10b-{_FILE}", ("So400m/14", "gemma2_9b")),
    (rf"paligemma2-28b-{_FILE}", ("So400m/14", "gemma2_27b")),
    (rf"{_KIND}|paligemma-3b-{_FILE}", ("So400m/14", "gemma_2b")),
)
# What a decoder is tuned with, where that differs from how it was pretrained: transfers of
# PaliGemma 2 leave the logits of the vocabulary uncapped (arXiv:2412.03555, section 4).
_TUNED = {"gemma2_2b": {"final_softcap": 0.0}}
_TUNED |= dict.fromkeys(("gemma2_9b", "gemma2_27b"), _TUNED["gemma2_2b"])
# What is no size: a run may set it as it likes, whatever its checkpoint was trained with.
_FREE = {"img": ("dropout",), "llm": ("dropout", "final_softcap")}


def variants_of(init: str) -> dict[str, str] | None:
    """The variants of `img` and `llm` of a checkpoint by its name; None for another name or path.

    Args:
      init: as in `config.init`, such as `pt-224` or `paligemma2-3b-mix-448`.
    """
    found = (pair for pattern, pair in _VARIANTS if re.fullmatch(pattern, init))
    pair = next(found, None)
    return pair and {"img": pair[0], "llm": pair[1]}


def derived_sizes(init: str, model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a config's `model` needs to change so that its decoder is the one of `init`.

    A decoder that another of the released checkpoints has is replaced, by one as it is tuned, with
    what the config sets beside the variant; a model of other sizes stays as it is, and `check_init`
    says so.

    Args:
      init: the name of the checkpoint.
      model: a config's `model`, with `img` and `llm` by variant.

    Returns:
      `{"llm": {…}}`, or {} where nothing needs to change.
    """
    theirs, img, llm = variants_of(init), dict(model["img"]), dict(model["llm"])
    released = {pair[1] for _, pair in _VARIANTS if pair[0] == "So400m/14"}
    if theirs is None or theirs["img"] != img.get("variant") or llm.get("variant") not in released:
        return {}
    if llm["variant"] == theirs["llm"]:
        return {}
    return {"llm": {**_TUNED.get(theirs["llm"], {}), **llm, "variant": theirs["llm"]}}


def check_init(config: RunConfig, where: str) -> None:
    """Checks that the model has the sizes of the checkpoint that `init` names.

    Sizes of a checkpoint at a path are compared when it is loaded.

    Raises:
      ConfigError: it has others.
    """
    for tower, variant in (variants_of(config.init) or {}).items():
        spec = getattr(config.model, tower)
        build = named.tower_sizes(tower)[2]
        ours, theirs = (
            dataclasses.replace(build(sizes), **dict.fromkeys(_FREE[tower], 0.0))
            for sizes in (spec, {"variant": variant})
        )
        if ours != theirs:
            raise ConfigError(
                f"{where}.init is {config.init!r}, whose {tower} is of the variant {variant!r}, "
                f"but {where}.model.{tower} is {dict(spec)}; expected the sizes of the checkpoint, "
                f"--{where}.model.{tower}.variant={variant}, or another checkpoint."
            )
