"""Cross-entropy over supervised positions, without ever holding all logits.

A language model's logits [B,T,V] are by far its largest activation (V = 257,152). Here each
row's supervised positions are first moved to its front; a loop then takes a few columns at a
time, as many times as the fullest row needs, and makes logits, loss and gradient together, so
one chunk of logits is alive at any moment and none is computed twice.

Einsum letters: B rows, C columns of a chunk, D width, V vocabulary, N parts of the batch, as many
as there are devices that split it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax import trees
from pgjax.models.attention import soft_cap
from pgjax.models.embedding import Transposed, all_blocks, block, dot_rows, is_narrower
from pgjax.models.paligemma import PaliGemma
from pgjax.sharding import constrain, data_size, gather

Flat = dict[str, jax.Array]


def make_loss(
    model: PaliGemma, *, label_smoothing: float, chunk: int
) -> Callable[[Flat, Flat, Flat, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]:
    """Loss of a batch as a function of the trainable parameters.

    Returns:
      `(trainable, frozen, batch, row_weight [B], key or None) -> (scalar, token losses [B,T])`,
      where the batch holds image, text [B,T+1], mask_ar and mask_loss, and a key means dropout.
    """

    def loss(trainable, frozen, batch, row_weight, key):
        params = trees.unflatten({**frozen, **trainable})
        text, mask_ar, targets, supervised = shift(
            batch["text"], batch["mask_ar"], batch["mask_loss"]
        )
        hidden = model.apply(
            {"params": params},
            batch["image"],
            text,
            mask_ar,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )
        table = params["llm"]["embedder"]["input_embedding"]
        softcap = model.llm_config.final_softcap
        return supervised_xent(
            hidden, table, targets, supervised, row_weight, label_smoothing, chunk, softcap
        )

    return loss


def shift(
    text: jax.Array, mask_ar: jax.Array, mask_loss: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Next-token inputs and targets; the only place where the shift by one happens.

    Args:
      text: int32 [B,T+1].
      mask_ar: int32 [B,T+1].
      mask_loss: int32 [B,T+1].

    Returns:
      inputs: text [B,T] and mask_ar [B,T]; targets [B,T]; supervised bool [B,T].
    """
    return text[:, :-1], mask_ar[:, :-1], text[:, 1:], mask_loss[:, 1:] > 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def supervised_xent(
    hidden: jax.Array,
    embedding: jax.Array | Transposed,
    targets: jax.Array,
    supervised: jax.Array,
    row_weight: jax.Array,
    label_smoothing: float,
    chunk: int,
    softcap: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Weighted mean over rows of the mean cross-entropy over a row's supervised tokens.

    With smoothing ε the target distribution is 1-ε on the target and ε/(V-1) on every other
    token (Szegedy et al., arXiv:1512.00567, without the target's own share). A row without
    supervised tokens has loss 0.

    Args:
      hidden: [B,T,D] final-normed hidden states.
      embedding: [V,D] output embedding; has a gradient if it is an array.
      targets: int32 [B,T].
      supervised: bool [B,T].
      row_weight: float32 [B], for a mean over rows 1/B each.
      label_smoothing: ε.
      chunk: columns of [B,T] whose logits are alive at a time.
      softcap: c > 0 bounds the logits to c·tanh(logits/c).

    Returns:
      (float32 scalar loss, float32 [B,T] cross-entropy per token, 0 where not supervised; the
      second is for reporting and carries no gradient).
    """
    static = (label_smoothing, chunk, softcap)
    loss, token_xent, _, _ = _forward(
        hidden, embedding, targets, supervised, row_weight, *static, False, False
    )
    return loss, token_xent


def _fwd(hidden, embedding, targets, supervised, row_weight, *static):
    # A frozen embedding is not perturbed, and then its [V,D] gradient is never made.
    loss, token_xent, d_hidden, d_embedding = _forward(
        *(x.value for x in (hidden, embedding, targets, supervised, row_weight)),
        *static,
        hidden.perturbed,
        embedding.perturbed,
    )
    return (loss, token_xent), (d_hidden, d_embedding)


def _bwd(label_smoothing, chunk, softcap, residuals, cotangents):
    del label_smoothing, chunk, softcap
    scale = cotangents[0]
    if isinstance(scale, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None, None
    d_hidden, d_embedding = (
        None if g is None else (scale * g.astype(jnp.float32)).astype(g.dtype) for g in residuals
    )
    return d_hidden, d_embedding, None, None, None


supervised_xent.defvjp(_fwd, _bwd, symbolic_zeros=True)


def _forward(
    hidden, embedding, targets, supervised, row_weight, smoothing, chunk, softcap, want_dh, want_de
):
    b, t, _ = hidden.shape
    vocab = embedding.shape[0]
    chunk = min(chunk, t)
    low = smoothing / (vocab - 1)
    high = 1.0 - smoothing - low

    count = supervised.sum(axis=1, dtype=jnp.int32)
    weight = row_weight / jnp.maximum(count, 1).astype(jnp.float32)
    # Supervised columns first, in their order; padded to whole chunks.
    order = jnp.argsort(~supervised, axis=1, stable=True).astype(jnp.int32)
    pad = -t % chunk
    packed_h = constrain(_take(hidden, order), "batch", None, None)
    packed_h = jnp.pad(packed_h, ((0, 0), (0, pad), (0, 0)))
    packed_y = jnp.pad(_take(targets, order), ((0, 0), (0, pad)))
    narrow = is_narrower(embedding, hidden)
    table = embedding if narrow else embedding.astype(hidden.dtype)
    if not isinstance(table, Transposed):
        table = gather(table, ("vocab", "embed"))  # fsdp gathers it once, not in every chunk
    # The gradient of the embedding is summed over devices once, not in every chunk: until then each
    # device has a sum of its own.
    groups = data_size()
    num_chunks = (count.max() + chunk - 1) // chunk

    def body(state):
        i, loss, xent, dh, de = state
        start = i * chunk
        h = jax.lax.dynamic_slice_in_dim(packed_h, start, chunk, axis=1)
        y = jax.lax.dynamic_slice_in_dim(packed_y, start, chunk, axis=1)
        live = (start + jnp.arange(chunk, dtype=jnp.int32))[None] < count[:, None]
        logits = soft_cap(constrain(dot_rows(h, table), "batch", None, "vocab"), softcap)
        lse = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits, y[:, :, None], axis=-1)[:, :, 0]
        ce = high * (lse - picked)
        if smoothing:
            ce += low * (vocab * lse - logits.sum(axis=-1))
        ce = jnp.where(live, ce, 0.0)
        loss += jnp.sum(weight * ce.sum(axis=1))
        xent = jax.lax.dynamic_update_slice_in_dim(xent, ce, start, axis=1)
        if want_dh or want_de:
            scale = jnp.where(live, weight[:, None], 0.0)[:, :, None]
            at_target = jnp.arange(vocab, dtype=jnp.int32)[None, None] == y[:, :, None]
            p = jnp.exp(logits - lse[:, :, None])
            dlogits = scale * (p - low - jnp.where(at_target, high, 0.0))
            if softcap:  # d c·tanh(x/c) / dx = 1 - tanh²(x/c)
                dlogits *= 1.0 - jnp.square(logits / softcap)
            dlogits = dlogits.astype(h.dtype)
            if want_dh:
                chunk_dh = _logits_transposed(dlogits, table)
                dh = jax.lax.dynamic_update_slice_in_dim(dh, chunk_dh, start, axis=1)
            if want_de:
                parts = (x.reshape(groups, -1, *x.shape[1:]) for x in (dlogits, h))
                de += jnp.einsum("NBCV,NBCD->NVD", *parts, preferred_element_type=jnp.float32)
                de = constrain(de, "batch", "vocab", None)
        return i + 1, loss, xent, dh, de

    state = (
        jnp.int32(0),
        jnp.float32(0),
        jnp.zeros((b, t + pad), jnp.float32),
        jnp.zeros_like(packed_h) if want_dh else None,
        jnp.zeros((groups, *embedding.shape), jnp.float32) if want_de else None,
    )
    _, loss, xent, dh, de = jax.lax.while_loop(lambda s: s[0] < num_chunks, body, state)
    back = jnp.argsort(order, axis=1).astype(jnp.int32)  # to the original columns
    return (
        loss,
        _take(xent[:, :t], back),
        _take(dh[:, :t], back) if want_dh else None,
        de.sum(axis=0).astype(embedding.dtype) if want_de else None,
    )


def _logits_transposed(dlogits: jax.Array, table: jax.Array) -> jax.Array:
    """[B,C,V], [V,D] -> [B,C,D] in dlogits' dtype."""
    if not is_narrower(table, dlogits):
        return jnp.einsum("BCV,VD->BCD", dlogits, table)

    def body(i, dh):
        part = block(dlogits, i, 2), block(table, i, 0).astype(dlogits.dtype)
        return dh + jnp.einsum("BCV,VD->BCD", *part)

    dh = jnp.zeros((*dlogits.shape[:2], table.shape[1]), dlogits.dtype)
    return jax.lax.fori_loop(*all_blocks(table), body, dh)


def _take(x: jax.Array, columns: jax.Array) -> jax.Array:
    """Reorders the columns of [B,T] or [B,T,D] by int32 [B,T]."""
    return jax.vmap(lambda row, order: jnp.take(row, order, axis=0))(x, columns)
