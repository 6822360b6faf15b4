"""transformers on torch at the same shapes, with random weights."""

import dataclasses
import gc
import statistics
import time
from typing import Any

import decoding
import training
from common import median_seconds

from device_parts.sizes import SIZES
from device_parts.training_case import arguments, label


def run(case: Any, emit: Any) -> None:
    """Training or answers."""
    {"train": _train, "answers": _answers}[case.options["what"]](case, emit)


def _train(case: Any, emit: Any) -> None:
    """Full tuning at the largest batch that fits, with every activation kept and without."""
    import torch

    size = SIZES[case.size]
    start = time.perf_counter()
    network = training.random_network(case.size, size.train[0].res).train()
    emit.say(f"transformers: {time.perf_counter() - start:.1f} s to make the weights")
    dtype, best = next(network.parameters()).dtype, 0.0
    for checkpointing in (False, True):
        if checkpointing:
            network.gradient_checkpointing_enable()
        for batch in size.peer_batches:
            shape = dataclasses.replace(size.train[0], batch=batch)
            args = arguments(case.size, shape)
            try:
                step, _ = training.run_network(args, network, "full")
                each = median_seconds(step, size.steps)
            except torch.OutOfMemoryError:
                each = None
            # Not in the handler, whose exception keeps the activations alive.
            step = None
            if each is None:
                emit.say(f"transformers: batch {batch} does not fit, checkpointing {checkpointing}")
                network.zero_grad(set_to_none=True)
                gc.collect()
                torch.cuda.empty_cache()
                continue
            kept = "recomputed" if checkpointing else "kept"
            note = f"parameters and moments {dtype}, activations {kept}"
            emit.row(f"{label(shape)}, transformers", each, "s a step", note)
            emit.row(f"{label(shape)}, transformers: rate", batch / each, "examples/s", kept)
            best = max(best, batch / each)
            break
    if not best:
        raise RuntimeError(f"no batch of {size.peer_batches} fits")
    emit.fact("examples_per_s", best)


def _answers(case: Any, emit: Any) -> None:
    """Greedy, at each batch size."""
    size = SIZES[case.size]
    network = training.random_network(case.size)
    for batch in size.peer_answers:
        generate = decoding.network_answers(network, batch)
        generate(2)
        times = {tokens: [] for tokens in (1, size.tokens)}
        for _ in range(3):
            for tokens, found in times.items():
                start = time.perf_counter()
                generate(tokens)
                found.append(time.perf_counter() - start)
        prefill, whole = (statistics.median(found) for found in times.values())
        each = (whole - prefill) / (size.tokens - 1)
        what = f"answers, batch {batch}, transformers"
        emit.row(f"{what}: prefill", 1000 * prefill, "ms", str(next(network.parameters()).dtype))
        emit.row(f"{what}: each token", 1000 * each, "ms", f"of {size.tokens - 1}")
        emit.row(f"{what}: rate", batch / each, "tokens/s")
        emit.fact(f"tokens_per_s/{batch}", batch / each)
