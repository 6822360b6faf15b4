"""What the device is, and how fast it copies and multiplies."""

from typing import Any

from common import machine, median_seconds, peaks, versions

from device_parts.sizes import SIZES

TIMES = 10


def run(case: Any, emit: Any) -> None:
    """Facts for the parent, and rows of bandwidth and arithmetic."""
    import jax
    import jax.numpy as jnp

    device, size = jax.devices()[0], SIZES[case.size]
    emit.fact("machine", f"{machine()}; {versions()}")
    emit.say(f"{machine()}; {versions()}")
    stats = device.memory_stats() or {}
    if limit := stats.get("bytes_limit"):
        emit.fact("memory", limit / case.memory_fraction)
    top = peaks()

    x = jnp.ones((size.copied // 4,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    seconds = _seconds(lambda: add(x), 2)
    bandwidth = 2 * size.copied / seconds
    note = f"{size.copied / 2**20:,.0f} MiB read and written"
    emit.row("copy", bandwidth / 1e9, "GB/s", f"{note}; {_of(bandwidth, top and top[1])}")
    emit.fact("bandwidth", bandwidth)

    n = size.multiplied
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (n, n)).astype(jnp.bfloat16) for key in keys)
    product = jax.jit(lambda a, b: a @ b)
    rate = 2 * n**3 / _seconds(lambda: product(a, b), 4)
    emit.row(f"product of {n} × {n}, bfloat16", rate / 1e12, "TFLOP/s", _of(rate, top and top[0]))


def _seconds(call: Any, together: int) -> float:
    """Median time of a call when some are dispatched together."""
    import jax

    whole = median_seconds(lambda: jax.block_until_ready([call() for _ in range(together)]), TIMES)
    return whole / together


def _of(value: float, peak: float | None) -> str:
    return f"{100 * value / peak:.1f} % of the data sheet" if peak else "no data sheet"
