"""Each implementation of attention that the device has, against the plain formula in float32.

Einsum letters as in pgjax/models/attention.py: B rows, T queries, S keys, K key heads, G queries
per key head, H head size.
"""

import functools
import inspect
from typing import Any

from common import median_seconds

from device_parts.cases import one_line
from device_parts.sizes import SIZES, Heads

NAMES = ("xla", "blocks", "cudnn", "tokamax", "splash")
TIMES = 5
# Norm of the difference over the norm of what is wanted: of the output, of each gradient.
TOLERANCES = {"bfloat16": (0.01, 0.02), "float16": (0.005, 0.01), "float32": (2e-5, 5e-5)}


def run(case: Any, emit: Any) -> None:
    """Rows by shape and implementation, with the time of output and gradients together."""
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    for heads in SIZES[case.size].attention:
        arguments = _arguments(heads)
        wanted = _with_gradients(functools.partial(_plain, heads=heads), heads)(*arguments)
        for name in implementations():
            _check(emit, heads, name, arguments, wanted)


def implementations() -> list[str | None]:
    """Names that `attend` takes; None alone where there is nothing to choose."""
    from pgjax.models import attention

    if "implementation" not in inspect.signature(attention.attend).parameters:
        return [None]
    return list(getattr(attention, "IMPLEMENTATIONS", NAMES))


def _choice(heads: Heads) -> str | None:
    """What the project would choose for a shape on this device, where it has a choice."""
    from pgjax.models import attention

    if not hasattr(attention, "choose"):
        return None
    t, masked, capped = heads.queries, bool(heads.text), bool(heads.softcap)
    return attention.choose(attention.Shape(t, t, heads.head_dim, heads.dtype, masked, capped))


def _taken(name: str, heads: Heads) -> str:
    """What computes a shape where the config names an implementation."""
    from pgjax.models.attention import Shape, chosen

    t, masked, capped = heads.queries, bool(heads.text), bool(heads.softcap)
    return chosen(name, Shape(t, t, heads.head_dim, heads.dtype, masked, capped))


def _check(emit: Any, heads: Heads, name: str | None, arguments: Any, wanted: Any) -> None:
    import jax
    import numpy as np

    from pgjax.models.attention import attend

    what = (
        f"{name or 'attend'}, {heads.name}, {heads.rows} × {heads.queries} tokens, {heads.heads} "
        f"heads of {heads.head_dim}, {heads.kv_heads} of keys, {heads.dtype}"
    )
    chosen = name is not None and name == _choice(heads)
    options = {"implementation": name} if name else {}
    if name and _taken(name, heads) != name:  # else what is measured would bear another's name
        emit.say(f"{what}: not here (it takes neither a mask nor a soft cap)")
        return

    def ours(q, k, v, mask):
        return attend(q, k, v, mask, None, heads.softcap, **options)

    both = _with_gradients(ours, heads)
    try:
        got = jax.block_until_ready(both(*arguments))
        seconds = median_seconds(lambda: jax.block_until_ready(both(*arguments)), TIMES)
    except Exception as e:
        if chosen or name in (None, "xla"):  # what every device has
            emit.row(what, float("nan"), "relative", one_line(e), ok=False)
        else:
            emit.say(f"{what}: not here ({one_line(e)})")
        return
    errors = []
    for g, w in zip(got, wanted, strict=True):
        g, w = (np.asarray(x, np.float32) for x in (g, w))
        error = np.linalg.norm(g - w) / max(np.linalg.norm(w), 1e-30)
        errors.append(float(error) if np.isfinite(error) else float("inf"))
    value, gradients = errors[0], errors[1:]
    of_values, of_gradients = TOLERANCES[heads.dtype]
    letters = ", ".join(f"d{x} {e:.1e}" for x, e in zip("qkv", gradients, strict=True))
    ok = value <= of_values and max(gradients) <= of_gradients
    note = f"{letters}; ≤ {of_values:g}, ≤ {of_gradients:g}; {1000 * seconds:.2f} ms"
    note += "; chosen here" if chosen else ""
    emit.row(what, value, "relative", note, ok=ok)


def _arguments(heads: Heads) -> tuple[Any, ...]:
    """q, k, v in the dtype, mask or None, and the output's cotangent, 0 where a row is padding."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    b, t, dtype = heads.rows, heads.queries, jnp.dtype(heads.dtype)
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(b, t, n, heads.head_dim) for n in (heads.heads, heads.kv_heads, heads.kv_heads)]
    q, k, v = (
        jax.random.normal(key, shape).astype(dtype)
        for key, shape in zip(keys[:3], shapes, strict=True)
    )
    cotangent = jax.random.normal(keys[3], shapes[0]).astype(dtype)
    if not heads.text:
        return q, k, v, None, cotangent
    rows, columns = np.arange(t)[:, None], np.arange(t)[None]
    seen = (columns <= rows) | (columns < t - heads.text)  # the prefix, and what came before
    mask = np.repeat(seen[None], b, axis=0)
    if heads.padding:
        mask[-1, :, -heads.padding :] = False
        # The output of a padded query means nothing, and nothing depends on it.
        mask[-1, -heads.padding :] = seen[-heads.padding :]
        cotangent = cotangent.at[-1, -heads.padding :].set(0)
    return q, k, v, jnp.asarray(mask), cotangent


def _with_gradients(function: Any, heads: Heads) -> Any:
    """(q, k, v, mask, cotangent) -> (output, dq, dk, dv) in one program.

    Rows of padding, whose cotangent is 0, are 0 in the output.
    """
    import jax
    import jax.numpy as jnp

    @jax.jit
    def both(q, k, v, mask, cotangent):
        out, back = jax.vjp(lambda q, k, v: function(q, k, v, mask), q, k, v)
        if heads.padding:
            live = jnp.any(cotangent != 0, axis=(2, 3), keepdims=True)
            out = jnp.where(live, out, 0)
        return out, *back(cotangent.astype(out.dtype))

    return both


def _plain(q: Any, k: Any, v: Any, mask: Any, *, heads: Heads) -> Any:
    """The formula, in float32 from the same inputs."""
    import jax
    import jax.numpy as jnp

    b, t, n, h = q.shape
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
    q = q.reshape(b, t, k.shape[2], -1, h)
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", q, k) / h**0.5
    if heads.softcap:
        logits = heads.softcap * jnp.tanh(logits / heads.softcap)
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    return jnp.einsum("BKGTS,BSKH->BTKGH", jax.nn.softmax(logits), v).reshape(b, t, n, h)
