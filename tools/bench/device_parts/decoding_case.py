"""Answers of one kind of weights: prefill, and time and bandwidth of each token after it."""

import statistics
import time
from typing import Any

import decoding
from common import in_parallel, peaks

from device_parts.sizes import SIZES

TIMES = 3


def run(case: Any, emit: Any) -> None:
    """Compiles all batch sizes; and unless that was all, measures them."""
    import jax

    size, kind = SIZES[case.size], case.options["kind"]
    model = decoding.half_model(case.size)
    start = time.perf_counter()
    params = decoding.arranged(decoding.random_params(model), kind or None)
    jax.block_until_ready(params)
    arranging = time.perf_counter() - start
    compiled = in_parallel(
        [
            lambda batch=batch: decoding.compile_answers(model, params, batch, size.tokens)
            for batch in size.batches
        ]
    )
    seconds = max(answers.compile_seconds for answers in compiled)
    if case.prepare:
        emit.fact("compile_seconds", seconds)
        return
    name = f"answers, {kind or model.llm_dtype.name}"
    read = decoding.bytes_per_token(params)
    emit.row(f"{name}: decoder and embedding", read / 2**20, "MiB")
    for batch, answers in zip(size.batches, compiled, strict=True):
        prefill, each = _measure(answers, size.tokens)
        what = f"{name}, batch {batch}"
        emit.row(f"{what}: prefill", 1000 * prefill, "ms")
        emit.row(f"{what}: each token", 1000 * each, "ms", f"of {size.tokens - 1}")
        emit.row(f"{what}: rate", batch / each, "tokens/s")
        emit.fact(f"tokens_per_s/{batch}", batch / each)
        moved, top = read + answers.cache_bytes, peaks()
        for limit, source in (
            (case.options.get("bandwidth"), "measured copy"),
            (top and top[1], "data sheet"),
        ):
            if limit:
                share = 100 * moved / each / limit
                note = f"{source}, {limit / 1e12:.2f} TB/s; {moved / 2**20:,.0f} MiB a token"
                emit.row(f"{what}: memory bandwidth", share, "%", note)
    beforehand = case.options.get("compile_seconds") or seconds
    emit.row(f"{name}: compiling", beforehand, "s", f"{arranging:.1f} s to make the weights")


def _measure(answers: Any, tokens: int) -> tuple[float, float]:
    """Median seconds of prefill, and of each token after the first."""
    answers.go_on(answers.start())
    first, rest = [], []
    for _ in range(TIMES):
        start = time.perf_counter()
        state = answers.start()
        middle = time.perf_counter()
        answers.go_on(state)
        first.append(middle - start)
        rest.append(time.perf_counter() - middle)
    return statistics.median(first), statistics.median(rest) / (tokens - 1)
