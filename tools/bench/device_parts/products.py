"""Products with quantized matrices, and the loss, against plain float32 arithmetic."""

from typing import Any

from device_parts.sizes import SIZES

TOLERANCE = 0.02  # of bfloat16 products: norm of the difference over the norm of what is wanted
LOSS = {"float32": 2e-5, "bfloat16": 0.02}


def run(case: Any, emit: Any) -> None:
    """Rows by kind of quantization, or by dtype of the loss."""
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    {"quantized": _quantized, "loss": _loss}[case.options["what"]](SIZES[case.size], emit)


def _quantized(size: Any, emit: Any) -> None:
    """The decoder's MLP with quantized matrices, for a single token and for many."""
    import jax
    import jax.numpy as jnp

    from pgjax.models.gemma import FeedForward
    from pgjax.models.quantized import KINDS, dequantize, quantize

    width, hidden = size.product
    module, keys = FeedForward(hidden), jax.random.split(jax.random.key(0), 4)
    shapes = {"gating_einsum": (2, width, hidden), "linear": (hidden, width)}
    summed = {"gating_einsum": (1,), "linear": (0,)}
    floats = {
        name: jax.random.normal(key, shape) * shape[-2] ** -0.5
        for key, (name, shape) in zip(keys, shapes.items(), strict=False)
    }

    @jax.jit
    def both(params, x, cotangent):
        out, back = jax.vjp(lambda x: module.apply({"params": params}, x), x)
        return out, back(cotangent)[0]

    for kind in KINDS:
        codes = {
            name: jax.jit(quantize, static_argnums=(1, 2))(x, kind, summed[name])
            for name, x in floats.items()
        }
        wide = {name: dequantize(q, jnp.float32) for name, q in codes.items()}
        for rows, tokens in ((1, 1), (8, 1), (2, 128)):
            x, cotangent = (
                jax.random.normal(key, (rows, tokens, width)).astype(jnp.bfloat16)
                for key in keys[2:]
            )
            got = both(codes, x, cotangent)
            wanted = both(wide, x.astype(jnp.float32), cotangent.astype(jnp.float32))
            value, gradient = (_relative(g, w) for g, w in zip(got, wanted, strict=True))
            ok = value <= TOLERANCE and gradient <= TOLERANCE
            what = f"{kind} MLP {width} × {hidden}, {rows} × {tokens} tokens, bfloat16"
            emit.row(what, value, "relative", f"dx {gradient:.1e}; ≤ {TOLERANCE:g}", ok=ok)


def _loss(size: Any, emit: Any) -> None:
    """Value and gradients of the chunked loss, against logits of every position at once."""
    import jax
    import jax.numpy as jnp

    from pgjax.models.loss import supervised_xent

    rows, tokens, width, vocab = size.loss
    keys = jax.random.split(jax.random.key(0), 4)
    hidden = jax.random.normal(keys[0], (rows, tokens, width))
    table = jax.random.normal(keys[1], (vocab, width)) * width**-0.5
    targets = jax.random.randint(keys[2], (rows, tokens), 0, vocab, jnp.int32)
    supervised = jax.random.bernoulli(keys[3], 0.5, (rows, tokens)).at[:, -1].set(True)
    weight = jnp.full((rows,), 1 / rows, jnp.float32)

    def full(hidden, table):
        logits = jnp.einsum("BTD,VD->BTV", hidden, table)
        each = jax.nn.logsumexp(logits, axis=-1)
        each -= jnp.take_along_axis(logits, targets[:, :, None], axis=-1)[:, :, 0]
        each = jnp.where(supervised, each, 0.0)
        return jnp.sum(weight * each.sum(axis=1) / supervised.sum(axis=1).astype(jnp.float32))

    def ours(hidden, table):
        return supervised_xent(hidden, table, targets, supervised, weight, 0.0, 16)[0]

    for dtype, tolerance in LOSS.items():
        half = [x.astype(dtype) for x in (hidden, table)]
        wide = [x.astype(jnp.float32) for x in half]
        (want, wanted), (value, got) = (
            jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(*inputs)
            for f, inputs in ((full, wide), (ours, half))
        )
        errors = [_relative(value, want), *(map(_relative, got, wanted))]
        emit.row(
            f"loss of {rows} × {tokens} tokens, {vocab} logits, {dtype}",
            errors[0],
            "relative",
            f"d hidden {errors[1]:.1e}, d embedding {errors[2]:.1e}; ≤ {tolerance:g}",
            ok=max(errors) <= tolerance,
        )


def _relative(got: Any, want: Any) -> float:
    """Norm of the difference over the norm of what is wanted; infinite where it is not a number."""
    import jax.numpy as jnp

    got, want = got.astype(jnp.float32), want.astype(jnp.float32)
    error = float(jnp.linalg.norm((got - want).ravel()) / jnp.linalg.norm(want.ravel()))
    return error if error == error else float("inf")
