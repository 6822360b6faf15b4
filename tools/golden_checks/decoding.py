"""Checks of generation, token by token."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.common import HALF, Check, Golden
from pgjax import trees
from pgjax.conformance.differences import EXACT, LOGITS, diff
from pgjax.decoding.decoders import make_decoder
from pgjax.decoding.generate import Generated, plain_rules
from pgjax.models.paligemma import Cache


def decode(g: Golden) -> Iterator[Check]:
    """Compares prefill and extend step by step, and greedy tokens with their log-probabilities."""
    d = g.load("decode.npz")
    steps, eos = int(d["max_decode_len"]), int(d["eos_token"])
    prompt = {k: jnp.asarray(d[k]) for k in ("image", "text", "mask_ar", "mask_input")}
    logits, cache = g.run(
        "prefill", *prompt.values(), max_new_tokens=steps, cache_dtype=jnp.float32
    )
    extend = jax.jit(lambda token, cache: g.run("extend", token, cache))
    worst, wrong = 0.0, 0
    for t in range(steps):
        worst = max(worst, diff(logits, d["step_logits"][:, t]))
        wrong += int((np.argmax(logits, -1) != d["tokens"][:, t]).sum())
        logits, cache = extend(jnp.asarray(d["tokens"][:, t]), cache)
    yield "step logits", worst, LOGITS
    yield "step tokens", float(wrong), EXACT

    runs = [("", g.flat, eos)]
    for key in sorted(d):
        if key.endswith("/final_norm_scale"):
            params = {**g.flat, "llm/final_norm/scale": jnp.asarray(d[key])}
            runs += [
                (f"{key.split('/')[0]}/greedy", params, eos),
                (f"{key.split('/')[0]}/greedy_alteos", params, int(d["alt_eos_token"])),
            ]
    for name, params, stop in runs:
        got = _decode(g, d, "greedy", params, stop)
        prefix = f"{name}/" if name else ""
        tokens, logp = d[f"{prefix}tokens"], d[f"{prefix}logp"]
        # The reference continues after eos, and writes 0 once all rows have ended. pgjax writes 0
        # in both cases.
        live = _until_eos(tokens, stop) & ~((tokens == 0) & (logp == 0))
        name = name or "greedy"
        yield f"{name} tokens", _diff_tokens(got.tokens, np.where(live, tokens, 0)), EXACT
        yield f"{name} log-probs", diff(got.logprobs, np.where(live, logp, 0.0)), LOGITS
    # Rows that are not valid stay 0, and generation does not wait for them.
    counts = d["earlystop/_mask"]
    got = _decode(g, d, "greedy", g.flat, eos, row_valid=counts)
    want = np.where(_until_eos(d["tokens"], eos) & counts[:, None], d["tokens"], 0)
    stopped = (d["earlystop/tokens"] == 0).all(axis=0)
    want = np.where(stopped & (d["earlystop/tokens"] == 0), 0, want)
    yield "early stop tokens", _diff_tokens(got.tokens, want), EXACT


def masked(g: Golden) -> Iterator[Check]:
    """Compares greedy decoding in which some tokens are not allowed."""
    d = g.load("decode.npz")
    allowed = ~np.isin(np.arange(g.model.llm_config.vocab_size), d["mask_logits/ids"])
    eos = int(d["eos_token"])
    got = _decode(g, d, "greedy", g.flat, eos, allowed=allowed)
    live = _until_eos(d["mask_logits/tokens"], eos)
    want = np.where(live, d["mask_logits/tokens"], 0)
    yield "tokens", _diff_tokens(got.tokens, want), EXACT
    yield "log-probs", diff(got.logprobs, np.where(live, d["mask_logits/logp"], 0.0)), LOGITS


def half_cache(g: Golden) -> Iterator[Check]:
    """Compares tokens and log-probabilities of decoding with a bfloat16 cache."""
    d = g.load("decode.npz")
    eos = int(d["eos_token"])
    got = _decode(g, d, "greedy", g.flat, eos, cache_dtype="bfloat16")
    live = _until_eos(d["cache_bf16/tokens"], eos)
    live &= ~((d["cache_bf16/tokens"] == 0) & (d["cache_bf16/logp"] == 0))
    want = np.where(live, d["cache_bf16/tokens"], 0)
    yield "tokens", _diff_tokens(got.tokens, want), EXACT
    yield "log-probs", diff(got.logprobs, np.where(live, d["cache_bf16/logp"], 0.0)), HALF


def beam(g: Golden) -> Iterator[Check]:
    """Compares the tokens of beam search."""
    d = g.load("decode.npz")
    for key in sorted(k for k in d if "beam" in k):
        *scale, name = key.removesuffix("/tokens").split("/")
        params = g.flat
        if scale:
            sharp = jnp.asarray(d[f"{scale[0]}/final_norm_scale"])
            params = {**params, "llm/final_norm/scale": sharp}
        stop = int(d["alt_eos_token" if name.endswith("_alteos") else "eos_token"])
        beams = name.removesuffix("_alteos").removeprefix("beam")
        got = _decode(g, d, f"beam({beams})", params, stop)
        yield "/".join([*scale, name]), _diff_tokens(got.tokens, d[key]), EXACT


def _decode(
    g: Golden, d, sampler: str, flat, eos: int, *, cache_dtype="float32", **changes
) -> Generated:
    steps = int(d["max_decode_len"])
    prompt = [jnp.asarray(d[k]) for k in ("image", "text", "mask_ar", "mask_input")]
    rules = plain_rules(len(prompt[1]), g.model.llm_config.vocab_size, limit=steps, eos_id=eos)
    changes = {"row_valid": d["_mask"], **changes}
    rules = rules._replace(**{k: jnp.asarray(v) for k, v in changes.items()})
    decode = make_decoder(sampler)

    @jax.jit
    def run(flat):
        variables = {"params": trees.unflatten(flat)}
        options = {"max_new_tokens": steps, "cache_dtype": cache_dtype, "method": "prefill"}
        return decode(
            lambda: g.model.apply(variables, *prompt, **options),
            lambda token, cache: g.model.apply(variables, token, cache, method="extend"),
            Cache.take,
            rules,
            max_new_tokens=steps,
        )

    return run(flat)


def _diff_tokens(got, want) -> float:
    """Returns the number of tokens that differ."""
    return float((np.asarray(got) != want).sum())


def _until_eos(tokens: np.ndarray, eos: int) -> np.ndarray:
    """Marks the tokens up to and including the first eos of each row."""
    ended = np.cumsum(tokens == eos, axis=1)
    return (ended == 0) | ((ended == 1) & (tokens == eos))
