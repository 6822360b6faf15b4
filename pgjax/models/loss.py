"""Cross-entropy over supervised positions, without ever holding all logits.

A language model's logits [B,T,V] are by far its largest activation (V = 257,152). Here each
row's supervised positions are first moved to its front. A loop then takes one chunk of columns at
a time, as often as the fullest row needs, and computes its logits, loss and gradient together, so
that one chunk of logits exists at any moment and none is computed twice.

Einsum letters: B rows, C columns of a chunk, D width, V vocabulary, N parts of the batch, one for
each device that splits it.
"""

import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int32

from pgjax import trees
from pgjax.models.attention import soft_cap
from pgjax.models.embedding import Transposed, all_blocks, block, dot_rows, is_narrower
from pgjax.models.paligemma import PaliGemma
from pgjax.sharding import constrain, data_size, gather, model_size

Flat = dict[str, jax.Array]

# The most blocks of the vocabulary in which the gradient of the embedding is added up.
_GRADIENT_BLOCKS = 16


def make_loss(
    model: PaliGemma, *, label_smoothing: float, chunk: int
) -> Callable[[Flat, Flat, Flat, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]:
    """Builds the loss of a batch as a function of the trainable parameters.

    Args:
      model: the module whose parameters are trained.
      label_smoothing: ε of `supervised_xent`.
      chunk: columns whose logits exist at a time, see `supervised_xent`.

    Returns:
      `(trainable, frozen, batch, row_weight [B], key or None) -> (scalar, token losses [B,T])`,
      where the batch holds image, text [B,T+1], mask_ar and mask_loss, and a key switches dropout
      on.
    """

    def loss(
        trainable: Flat, frozen: Flat, batch: Flat, row_weight: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        params = trees.unflatten({**frozen, **trainable})
        text, mask_ar, targets, supervised = shift(
            batch["text"], batch["mask_ar"], batch["mask_loss"]
        )
        hidden = cast(
            jax.Array,
            model.apply(
                {"params": params},
                batch["image"],
                text,
                mask_ar,
                deterministic=key is None,
                rngs=None if key is None else {"dropout": key},
            ),
        )
        table = params["llm"]["embedder"]["input_embedding"]
        softcap = model.llm_config.final_softcap
        return supervised_xent(
            hidden, table, targets, supervised, row_weight, label_smoothing, chunk, softcap
        )

    return loss


def shift(
    text: Int32[jax.Array, "b n"],
    mask_ar: Int32[jax.Array, "b n"],
    mask_loss: Int32[jax.Array, "b n"],
) -> tuple[
    Int32[jax.Array, "b n-1"],
    Int32[jax.Array, "b n-1"],
    Int32[jax.Array, "b n-1"],
    Bool[jax.Array, "b n-1"],
]:
    """Splits sequences of T+1 tokens into inputs and next-token targets of T tokens each.

    This is the only place where the shift by one happens.

    Args:
      text: int32 [B,T+1].
      mask_ar: int32 [B,T+1].
      mask_loss: int32 [B,T+1], positive where a token is supervised.

    Returns:
      (input text, input mask_ar, targets, supervised), int32 [B,T] but the last, which is bool.
    """
    return text[:, :-1], mask_ar[:, :-1], text[:, 1:], mask_loss[:, 1:] > 0


def supervised_xent(
    hidden: Float[jax.Array, "b t d"],
    embedding: Float[jax.Array, "v d"] | Transposed,
    targets: Int32[jax.Array, "b t"],
    supervised: Bool[jax.Array, "b t"],
    row_weight: Float32[jax.Array, " b"],
    label_smoothing: float,
    chunk: int,
    softcap: float = 0.0,
) -> tuple[Float32[jax.Array, ""], Float32[jax.Array, "b t"]]:
    """Computes the weighted sum over rows of the mean cross-entropy of a row's supervised tokens.

    With smoothing ε the target distribution is 1-ε on the target and ε/(V-1) on every other
    token (Szegedy et al., arXiv:1512.00567, without the target's own share). A row without
    supervised tokens has loss 0.

    Args:
      hidden: [B,T,D], hidden states after the final norm.
      embedding: [V,D], output embedding; it has a gradient if it is an array.
      targets: int32 [B,T].
      supervised: bool [B,T].
      row_weight: float32 [B]; 1/B each gives the mean over rows.
      label_smoothing: ε.
      chunk: columns of [B,T] whose logits exist at a time.
      softcap: c > 0 bounds the logits to c·tanh(logits/c).

    Returns:
      (float32 scalar loss, float32 [B,T] cross-entropy of each token, 0 where not supervised; the
      second is for reporting and carries no gradient).
    """
    return _supervised_xent(
        hidden, embedding, targets, supervised, row_weight, label_smoothing, chunk, softcap
    )


def _primal(hidden, embedding, targets, supervised, row_weight, label_smoothing, chunk, softcap):
    arrays = (hidden, embedding, targets, supervised, row_weight)
    loss, token_xent, _, _ = _forward(arrays, label_smoothing, chunk, softcap, False, False)
    return loss, token_xent


def _fwd(hidden, embedding, targets, supervised, row_weight, label_smoothing, chunk, softcap):
    arrays = tuple(x.value for x in (hidden, embedding, targets, supervised, row_weight))
    # A frozen embedding is not perturbed, and then its [V,D] gradient is never computed.
    wanted = (hidden.perturbed, embedding.perturbed)
    loss, token_xent, d_hidden, d_embedding = _forward(
        arrays, label_smoothing, chunk, softcap, *wanted
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


_supervised_xent = jax.custom_vjp(_primal, nondiff_argnums=(5, 6, 7))
_supervised_xent.defvjp(_fwd, _bwd, symbolic_zeros=True)


def _forward(
    arrays: tuple, smoothing: float, chunk: int, softcap: float, want_dh: bool, want_de: bool
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """Computes loss and token losses, and the gradients by hidden states and embedding if wanted.

    `arrays` are the arguments of `supervised_xent` up to `row_weight`.
    """
    hidden, embedding, targets, supervised, row_weight = arrays
    b, t, _ = hidden.shape
    vocab = embedding.shape[0]
    chunk = min(chunk, t)
    low = smoothing / (vocab - 1)
    high = 1.0 - smoothing - low

    count = supervised.sum(axis=1, dtype=jnp.int32)
    weight = row_weight / jnp.maximum(count, 1).astype(jnp.float32)
    # Supervised columns come first, in their order, and are padded to whole chunks.
    order = jnp.argsort(~supervised, axis=1, stable=True).astype(jnp.int32)
    pad = -t % chunk
    packed_h = constrain(_take(hidden, order), "batch", None, None)
    packed_h = jnp.pad(packed_h, ((0, 0), (0, pad), (0, 0)))
    packed_y = jnp.pad(_take(targets, order), ((0, 0), (0, pad)))
    narrow = is_narrower(embedding, hidden)
    table = embedding if narrow else embedding.astype(hidden.dtype)
    if not isinstance(table, Transposed):
        table = gather(table, ("vocab", "embed"))  # fsdp gathers it once, not in every chunk
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
            if softcap:  # the derivative of c·tanh(x/c) is 1 - tanh²(x/c)
                dlogits *= 1.0 - jnp.square(logits / softcap)
            dlogits = dlogits.astype(h.dtype)
            if want_dh:
                assert not isinstance(table, Transposed), "training has the table as [V,D]"
                chunk_dh = _logits_transposed(dlogits, table)
                dh = jax.lax.dynamic_update_slice_in_dim(dh, chunk_dh, start, axis=1)
            if want_de:
                de = _add_outer(de, dlogits, h)
        return i + 1, loss, xent, dh, de

    state = (
        jnp.int32(0),
        jnp.float32(0),
        jnp.zeros((b, t + pad), jnp.float32),
        jnp.zeros_like(packed_h) if want_dh else None,
        _zeros_by_device(embedding.shape) if want_de else None,
    )
    _, loss, xent, dh, de = jax.lax.while_loop(lambda s: s[0] < num_chunks, body, state)
    back = jnp.argsort(order, axis=1).astype(jnp.int32)  # to the original columns
    return (
        loss,
        _take(xent[:, :t], back),
        None if dh is None else _take(dh[:, :t], back),
        None if de is None else de.sum(axis=0).reshape(embedding.shape).astype(embedding.dtype),
    )


def _zeros_by_device(shape: tuple[int, int]) -> jax.Array:
    """Makes zeros float32 [N,K,V/K,D], in which each device adds up the gradient of its own rows.

    The gradient [V,D] is cut into K blocks. It is summed over devices once, at the end, and not in
    every chunk.
    """
    blocks = math.gcd(shape[0], _GRADIENT_BLOCKS) if model_size() == 1 else 1
    return jnp.zeros((data_size(), blocks, shape[0] // blocks, shape[1]), jnp.float32)


def _add_outer(de: jax.Array, dlogits: jax.Array, h: jax.Array) -> jax.Array:
    """Adds [B,C,V]ᵀ[B,C,D] to de [N,K,V/K,D], one block at a time, so that de exists only once."""
    groups, blocks, size, _ = de.shape
    h = h.reshape(groups, -1, *h.shape[1:])
    dlogits = dlogits.reshape(*h.shape[:-1], blocks, size)

    def body(k, de):
        part = jax.lax.dynamic_index_in_dim(dlogits, k, 3, keepdims=False)
        part = jnp.einsum("NBCV,NBCD->NVD", part, h, preferred_element_type=jnp.float32)
        part = constrain(part, "batch", "vocab", None)
        part += jax.lax.dynamic_index_in_dim(de, k, 1, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(de, part, k, 1)

    return constrain(jax.lax.fori_loop(0, blocks, body, de), "batch", None, "vocab", None)


def _logits_transposed(dlogits: jax.Array, table: jax.Array) -> jax.Array:
    """Multiplies dlogits [B,C,V] by the table [V,D] into [B,C,D], in dlogits' dtype."""
    if not is_narrower(table, dlogits):
        return jnp.einsum("BCV,VD->BCD", dlogits, table)

    def body(i, dh):
        part = block(dlogits, i, 2), block(table, i, 0).astype(dlogits.dtype)
        return dh + jnp.einsum("BCV,VD->BCD", *part)

    dh = jnp.zeros((*dlogits.shape[:2], table.shape[1]), dlogits.dtype)
    return jax.lax.fori_loop(*all_blocks(table), body, dh)


def _take(x: jax.Array, columns: jax.Array) -> jax.Array:
    """Reorders the columns of x [B,T] or [B,T,D] by int32 [B,T]."""
    return jax.vmap(lambda row, order: jnp.take(row, order, axis=0))(x, columns)
