"""Calls with wrong arguments end in one sentence that names the argument and says what to do."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from pgjax.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

# Arguments of other libraries, and what pgjax has instead.
HINTS = {
    "max_tokens": "max_new_tokens=64 is the longest answer",
    "max_length": "max_new_tokens=64 is the longest answer",
    "max_output_tokens": "max_new_tokens=64 is the longest answer",
    "temperature": 'sampler="temperature(0.7)" samples',
    "do_sample": 'sampler="temperature(1.0)" samples, and sampler="greedy" does not',
    "top_k": 'sampler="top_k(40)" samples from the 40 likeliest tokens',
    "top_p": 'sampler="nucleus(0.9)" samples from the likeliest tokens',
    "num_beams": 'sampler="beam(4)" is a beam search',
    "num_return_sequences": "repeat the prompt in a list, and each place draws its own answer",
    "best_of": 'sampler="best_of(4)" keeps the likeliest of several samples',
    "stop_strings": 'stop="…" ends an answer',
    "stop_sequences": 'stop="…" ends an answer',
    "eos_token_id": 'stop="…" ends an answer',
    "bad_words_ids": "forbidden=[…] names words that may not be chosen",
    "repetition_penalty": "forbidden=[…] names words that may not be chosen",
    "generator": "seed=0 seeds the sampler",
    "random_seed": "seed=0 seeds the sampler",
    "rng": "seed=0 seeds the sampler",
    "streamer": "model.stream(image, prompt) yields the text in pieces",
    "logprobs": "return_answers=True returns tokens and log-probabilities",
    "output_scores": "return_answers=True returns tokens and log-probabilities",
    "return_dict_in_generate": "return_answers=True returns tokens and log-probabilities",
    "input_ids": "images and prompts are given as they are: generate(image, prompt)",
    "pixel_values": "images and prompts are given as they are: generate(image, prompt)",
    "text": "the second argument is the prompt: generate(image, prompt)",
    "question": "the second argument is the prompt: generate(image, prompt)",
    "torch_dtype": 'dtype="bfloat16" sets the precision of the matrices',
    "load_in_4bit": 'quantize="nf4" stores the decoder in 4 bits',
    "load_in_8bit": 'quantize="int8" stores the decoder in 8 bits',
    "quantization_config": 'quantize="int8", "int4" or "nf4" stores the decoder in fewer bits',
    "device": "JAX takes the devices that it finds; the environment's JAX_PLATFORMS=cpu changes it",
    "device_map": 'mesh={"data": 1, "model": 4} spreads a model over devices',
    "cache_dir": "the environment's PGJAX_CHECKPOINTS names the folder of checkpoints",
    "token": "the environment's HF_TOKEN holds the token of the hub",
    "image_size": "res=448 sets the size of images",
    "resolution": "res=448 sets the size of images",
    "epochs": 'it is a key of the config: pgjax.read_config(…, {"total_epochs": 3.0})',
    "num_train_epochs": 'it is a key of the config: pgjax.read_config(…, {"total_epochs": 3.0})',
    "learning_rate": 'it is a key of the config: pgjax.read_config(…, {"optimizer.lr": 1e-5})',
    "lr": 'it is a key of the config: pgjax.read_config(…, {"optimizer.lr": 1e-5})',
    "batch_size": 'it is a key of the config: pgjax.read_config(…, {"input.batch_size": 8})',
    "steps": 'it is a key of the config: pgjax.read_config(…, {"total_steps": 200})',
    "train_dataset": "data=[…] is the training data",
    "output_dir": "workdir is the folder of the run",
    "callbacks": "on_metrics is called with the step and its metrics",
}


def checks_call(function: F) -> F:
    """A decorator that raises a `UserError` for arguments that the function does not take."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            raise UserError(_what_is_wrong(function.__name__, signature, args, kwargs)) from None
        return function(*args, **kwargs)

    return checked  # pyright: ignore[reportReturnType]  # of the same signature


def _what_is_wrong(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    parameters = {k: p for k, p in signature.parameters.items() if k != "self"}
    given = args[len(signature.parameters) - len(parameters) :]
    for key in kwargs:
        if key not in parameters:
            return f"{name}() has no argument {key!r}; {_hint(key, list(parameters))}"
    positional = [k for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(given) > len(positional):
        return (
            f"{name}() got {len(given)} arguments without a name, expected at most "
            f"{len(positional)} ({', '.join(positional)}); the others are given as name=value."
        )
    if twice := [k for k in positional[: len(given)] if k in kwargs]:
        return f"{name}() got the argument {twice[0]!r} twice, expected it once."
    known = {*positional[: len(given)], *kwargs}
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in known]
    return f"{name}() lacks the argument {missing[0]!r}; it takes {', '.join(positional)}."


def _hint(key: str, known: list[str]) -> str:
    if key in HINTS:
        return f"{HINTS[key]}."
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}."
