"""Generation, token for token."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.common import EXACT, LOGITS, Check, Golden, diff
from pgjax import trees
from pgjax.decoding.generate import generate
from pgjax.decoding.samplers import greedy


def decode(g: Golden) -> Iterator[Check]:
    """Prefill and extend, greedy tokens, step logits and log-probabilities."""
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

    runs = [("greedy", g.variables["params"], d["tokens"], d["logp"], eos)]
    for key in sorted(d):
        if key.endswith("/final_norm_scale"):
            sharp = key.split("/")[0]
            params = trees.unflatten({**g.flat, "llm/final_norm/scale": jnp.asarray(d[key])})
            for name, stop in (
                (f"{sharp}/greedy", eos),
                (f"{sharp}/greedy_alteos", int(d["alt_eos_token"])),
            ):
                runs.append((name, params, d[f"{name}/tokens"], d[f"{name}/logp"], stop))
    for name, params, tokens, logp, stop in runs:
        got = _greedy(g, params, prompt, steps, stop, d["_mask"])
        # The reference goes on after eos and writes 0 once all rows have ended; pgjax blanks both.
        live = _until_eos(tokens, stop) & ~((tokens == 0) & (logp == 0))
        yield f"{name} tokens", diff(got.tokens, np.where(live, tokens, 0)), EXACT
        yield f"{name} log-probs", diff(got.logprobs, np.where(live, logp, 0.0)), LOGITS
    # Rows that do not count stay blank, and nobody waits for them.
    counts = d["earlystop/_mask"]
    got = _greedy(g, g.variables["params"], prompt, steps, eos, counts)
    want = np.where(_until_eos(d["tokens"], eos) & counts[:, None], d["tokens"], 0)
    stopped = (d["earlystop/tokens"] == 0).all(axis=0)
    want = np.where(stopped & (d["earlystop/tokens"] == 0), 0, want)
    yield "early stop tokens", diff(got.tokens, want), EXACT


def _greedy(g: Golden, params, prompt, steps: int, eos: int, row_valid):
    apply = g.model.apply
    return jax.jit(
        lambda params: generate(
            lambda: apply(
                {"params": params},
                *prompt.values(),
                method="prefill",
                max_new_tokens=steps,
                cache_dtype=jnp.float32,
            ),
            lambda token, cache: apply({"params": params}, token, cache, method="extend"),
            sampler=greedy,
            key=jax.random.key(0),
            max_new_tokens=steps,
            eos_id=eos,
            row_valid=jnp.asarray(row_valid),
        )
    )(params)


def _until_eos(tokens: np.ndarray, eos: int) -> np.ndarray:
    """True up to and including each row's first eos."""
    ended = np.cumsum(tokens == eos, axis=1)
    return (ended == 0) | ((ended == 1) & (tokens == eos))
