"""Configs, samplers, arguments of the Python API, and command lines."""

import contextlib
import functools
import io
import pathlib
import re
from typing import Any

from hypothesis import strategies as st

import pgjax
from pgjax.commands.config_files import load_config
from pgjax.commands.main import COMMANDS, command_class, main
from pgjax.config import parse_config
from pgjax.decoding.decoders import make_decoder
from pgjax.inference.decoding_options import read_options
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import ODD_TEXT, ODD_VALUES, damaged_values, values_of
from tools.faults.fuzzing.targets.images import encoded

# ---- configs -------------------------------------------------------------------------------------


@functools.cache
def _config() -> dict[str, Any]:
    found = load_config("forkme:variant=tiny").to_dict()
    return _plain(found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def check_config(given: Any, folder: pathlib.Path) -> None:
    """Numbers arrive as they are given."""
    config = parse_config(given)
    for key in ("seed", "total_steps", "log_every"):
        if given.get(key) is not None and getattr(config, key, None) != given[key]:
            raise Wrong(f"{key} is {getattr(config, key, None)}, given {given[key]}")


_NAMES = st.one_of(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(("forkme", "quickstart", "vqav2", "configs/forkme.py", "x", "../x.py", "")),
        st.sampled_from((":", ":", "", "::", ".py:")),
        st.lists(
            st.builds(
                "{}{}{}".format,
                st.sampled_from(("variant", "res", "mode", "steps", "init", "x", "")),
                st.sampled_from(("=", "", "==")),
                st.one_of(ODD_TEXT, st.sampled_from(("tiny", "224", "448", "lora", "-1", "1e9"))),
            ),
            max_size=3,
        ).map(",".join),
    ),
    ODD_TEXT,
)


def check_name(text: str, folder: pathlib.Path) -> None:
    """A config that is found can be parsed, or says what does not fit."""
    parse_config(load_config(text))


# ---- samplers and options ------------------------------------------------------------------------

_ARGUMENT = st.sampled_from(
    (
        "0.7",
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "4",
        "1e9",
        "",
        "x",
        "0.5.",
        "1_0",
        "9" * 400,
        "1e-320",
    )
)
_SAMPLERS = st.one_of(
    st.builds(
        "{}({})".format,
        st.sampled_from(
            ("greedy", "temperature", "top_k", "nucleus", "beam", "best_of", "beem", "")
        ),
        st.lists(_ARGUMENT, max_size=3).map(", ".join),
    ),
    ODD_TEXT,
)


def check_sampler(text: str, folder: pathlib.Path) -> None:
    """What is taken can be built."""
    make_decoder(text)


_KEYS = ("max_new_tokens", "sampler", "seed", "stop", "allowed", "forbidden", "cache_dtype",
         "batch_size", "orient", "allow_urls")  # fmt: skip
_OPTIONS = st.dictionaries(
    st.sampled_from(_KEYS), st.one_of(ODD_VALUES, st.lists(ODD_TEXT, max_size=3)), max_size=3
)


def check_options(given: dict[str, Any], folder: pathlib.Path) -> None:
    """Whole numbers and texts are kept."""
    options = read_options(given)  # pyright: ignore[reportArgumentType]
    for key in ("seed", "batch_size", "max_new_tokens"):
        if key in given and getattr(options, key) != given[key]:
            raise Wrong(f"{key} is {getattr(options, key)}, given {given[key]}")


# ---- loading and asking --------------------------------------------------------------------------

_SOURCES = st.one_of(st.sampled_from(("tiny", "none", None, "tiny.npz")), ODD_TEXT, ODD_VALUES)
_LOAD = st.fixed_dictionaries(
    {"source": _SOURCES},
    optional={
        "quantize": st.one_of(st.sampled_from(("int8", "int3", "")), ODD_VALUES),
        "quantize_images": ODD_VALUES,
        "res": st.one_of(st.sampled_from((-1, 0, 10**6, 65, "64")), ODD_VALUES),
        "dtype": st.one_of(st.sampled_from(("int8", "x", "float8", int)), ODD_VALUES),
        "tokenizer": ODD_VALUES,
        "mesh": st.one_of(st.just({"x": 1}), ODD_VALUES),
        "base": ODD_VALUES,
        "nothing": ODD_VALUES,
    },
).filter(lambda given: given != {"source": "tiny"})  # as it should be; it is tested elsewhere


def check_load(given: dict[str, Any], folder: pathlib.Path) -> None:
    """Each call loads a model, or says which argument does not fit."""
    if not hasattr(pgjax.load(**given), "generate"):
        raise Wrong("no model")


@functools.cache
def _model() -> Any:
    return pgjax.load("tiny")


_IMAGES = st.one_of(st.just(encoded()[0]), st.sampled_from(encoded()), ODD_VALUES)
_PROMPTS = st.one_of(
    st.sampled_from(("caption en", "detect cat", "segment cat", "<image>caption en", "<bos>", "")),
    ODD_VALUES,
    ODD_TEXT,
)
_ASK = st.fixed_dictionaries(
    {"images": st.one_of(_IMAGES, st.lists(_IMAGES, max_size=2)),
     "prompts": st.one_of(_PROMPTS, st.lists(_PROMPTS, max_size=2))},
    optional={"stop": st.one_of(ODD_TEXT, ODD_VALUES), "seed": ODD_VALUES, "x": ODD_VALUES},
)  # fmt: skip


def check_ask(given: dict[str, Any], folder: pathlib.Path) -> None:
    """There is an answer to each prompt."""
    images, prompts = given.pop("images"), given.pop("prompts")
    got = _model().generate(images, prompts, max_new_tokens=2, batch_size=1, **given)
    several = isinstance(images, list) or isinstance(prompts, list)
    if several != isinstance(got, list):
        raise Wrong(
            f"{type(got).__name__} for {type(images).__name__} and {type(prompts).__name__}"
        )


# ---- command lines -------------------------------------------------------------------------------

_WORDS = st.one_of(
    ODD_TEXT.filter(lambda text: "\0" not in text),
    st.sampled_from(
        ("x", "nocaps", "forkme", "1", "0", "-1", "1e9", "true", "none", "x.jsonl", "x.png", ".",
         "..", "/dev/null", "x.npz", "tiny", "folder", "--", "-", "=", "float32", "l4", "100-3",
         "9999999999")
    ),
)  # fmt: skip
# Commands as far as they go before they load a model or wait for one.
_SHORT = ("prepare", "check-data", "make-jsonl", "report", "list", "convert", "plan", "predict",
          "evaluate", "train", "nothing")  # fmt: skip


@functools.cache
def _flags(name: str) -> tuple[str, ...]:
    if name not in COMMANDS:
        return ("x",)
    flags = list(command_class(name)([]).flags)
    return tuple(flag for flag in flags if flag not in ("workdir", "distributed", "coordinator"))


@st.composite
def _lines(draw: Any) -> list[str]:
    name = draw(st.sampled_from(_SHORT))
    flags = draw(st.lists(st.sampled_from(_flags(name)), max_size=4))
    argv = [name, *draw(st.lists(_WORDS, max_size=2))]
    argv += [f"--{flag}" if draw(st.booleans()) else f"--{flag}={draw(_WORDS)}" for flag in flags]
    if name in ("train", "plan", "check-data", "evaluate") and draw(st.booleans()):
        key = draw(st.sampled_from(("seed", "optimizer.lr", "input.batch_size", "x", "model.res")))
        argv += ["--config=forkme:variant=tiny", f"--config.{key}={draw(_WORDS)}"]
    return draw(st.permutations(argv[1:]).map(lambda rest: [name, *rest]))


def check_line(argv: list[str], folder: pathlib.Path) -> None:
    """One line says what is wrong, and the exit status says so too."""
    (folder / "folder").mkdir()
    (folder / "x.jsonl").write_text('{"image": "x.png", "suffix": "a"}\n')
    (folder / "x.png").write_bytes(encoded()[5])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(argv)
        except SystemExit as e:
            status = e.code
    said = err.getvalue()
    errors = re.findall(r"^error: ", said, re.MULTILINE)
    if (status == 0) == bool(errors) and status not in (3, 128 + 13):
        raise Wrong(f"exit status {status}: {said[-1500:]}")
    if "Traceback" in said and "--debug" not in argv:
        raise Wrong(f"a traceback: {said[-1500:]}")


TARGETS = [
    Target("run configs", values_of(lambda: damaged_values(_config())), check_config, 6),
    Target("names of configs", values_of(lambda: _NAMES), check_name, 4),
    Target("samplers", values_of(lambda: _SAMPLERS), check_sampler, 3),
    Target("options of decoding", values_of(lambda: _OPTIONS), check_options, 3),
    Target("pgjax.load", values_of(lambda: _LOAD), check_load, 2),
    Target("Model.generate", values_of(lambda: _ASK), check_ask, 2, lambda: _model(), seconds=40),
    Target("command lines", values_of(_lines), check_line, 8),
]
