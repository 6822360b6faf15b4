"""Runs pgjax on a folder of reference outputs and prints how far it is from them.

    python tools/check_golden.py DIR

DIR is laid out as the project's golden folder: a `manifest.json` that gives the model's sizes, and
the arrays that the reference implementations produced. Nothing about one folder is built in
here. The exit status is 0 when every covered group passes, else 1.
"""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.checkpoints.npz import read_npz
from pgjax.data.decode import decode_image
from pgjax.data.pipeline import Pipeline
from pgjax.decoding.generate import generate
from pgjax.decoding.samplers import greedy
from pgjax.models.loss import make_loss
from pgjax.models.paligemma import abstract_params, make_attn_mask, make_model
from pgjax.text.compose import answering_arrays, training_arrays
from pgjax.text.tokenizer import Tokenizer
from pgjax.training.optimizer import apply_optimizer, make_optimizer, split_trainable
from pgjax.training.schedules import make_schedule

LOGITS = 5e-5  # largest absolute difference of float32 logits
RELATIVE = 1e-5  # of losses and gradients
EXACT = 0.0  # tokens, masks, text
GREY = 1.0  # of 255

Check = tuple[str, float, float]  # what, difference, tolerance
NOT_COVERED = ("beam", "token masks", "bfloat16 cache", "mask codec", "metrics", "hugging face")


class Golden:
    """The folder, its model, and its parameters."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        spec = self.manifest["model"]
        sizes = ("width", "depth", "mlp_dim", "num_heads", "patch_size")
        img = {k: spec["img"][k] for k in sizes}
        self.model = make_model({"res": spec["res"], "img": img, "llm": spec["llm"]})
        self.flat = read_npz(folder / "params.npz")
        trees.check_same(
            trees.flatten(
                jax.tree.map(lambda x: x.value, abstract_params(self.model), is_leaf=_boxed)
            ),
            self.flat,
            what=str(folder / "params.npz"),
        )
        self.flat = {k: jnp.asarray(v) for k, v in self.flat.items()}
        self.variables = {"params": trees.unflatten(self.flat)}

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Reads one npz of the folder."""
        with np.load(self.folder / name) as arrays:
            return dict(arrays)

    def run(self, method: str | None, *args, **kwargs):
        """Calls a method of the model with the folder's parameters."""
        return self.model.apply(self.variables, *args, method=method, **kwargs)


def _boxed(x) -> bool:
    return hasattr(x, "unbox")


def _diff(got, want) -> float:
    """Largest absolute difference; infinite for a wrong shape."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0))


def _rel(got, want) -> float:
    return _diff(got, want) / max(float(np.abs(want).max(initial=0.0)), 1e-30)


def forward(g: Golden) -> Iterator[Check]:
    """Image encoder, masks and logits."""
    f = g.load("forward.npz")
    tokens, encoded = g.model.apply(g.variables, f["image"], method=lambda m, x: m.img(x))
    yield "image encoder", _diff(encoded, f["img_encoded"]), LOGITS
    yield "image tokens", _diff(tokens, f["zimg"]), LOGITS
    yield (
        "text embedding",
        _diff(g.model.apply(g.variables, f["text"], method=lambda m, t: m.llm.embed(t)), f["ztxt"]),
        LOGITS,
    )
    hidden = g.run(None, f["image"], f["text"], f["mask_ar"])
    yield "text logits", _diff(g.run("logits", hidden), f["text_logits"]), LOGITS


def masks(g: Golden) -> Iterator[Check]:
    """Block-prefix attention masks."""
    f = g.load("forward.npz")
    got = make_attn_mask(jnp.asarray(f["mam_input_mask"]), jnp.asarray(f["mam_mask_ar"]))
    yield "mask cases", _diff(got, f["mam_out"]), EXACT
    num_img = f["zimg"].shape[1]
    for key, valid in (
        ("attn_mask", np.ones_like(f["mask_input"])),
        ("prefill_attn_mask", f["mask_input"]),
    ):
        pad = ((0, 0), (num_img, 0))
        valid = np.pad(valid, pad, constant_values=True)
        got = make_attn_mask(jnp.asarray(valid), jnp.asarray(np.pad(f["mask_ar"], pad)))
        yield key, _diff(got, f[key]), EXACT


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
        worst = max(worst, _diff(logits, d["step_logits"][:, t]))
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
        yield f"{name} tokens", _diff(got.tokens, np.where(live, tokens, 0)), EXACT
        yield f"{name} log-probs", _diff(got.logprobs, np.where(live, logp, 0.0)), LOGITS
    # Rows that do not count stay blank, and nobody waits for them.
    counts = d["earlystop/_mask"]
    got = _greedy(g, g.variables["params"], prompt, steps, eos, counts)
    want = np.where(_until_eos(d["tokens"], eos) & counts[:, None], d["tokens"], 0)
    stopped = (d["earlystop/tokens"] == 0).all(axis=0)
    want = np.where(stopped & (d["earlystop/tokens"] == 0), 0, want)
    yield "early stop tokens", _diff(got.tokens, want), EXACT


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


def _loss_fn(g: Golden, t: dict, smoothing: float) -> Callable:
    batch = {k: jnp.asarray(t[k]) for k in ("image", "text", "mask_ar", "mask_loss")}
    rows = batch["text"].shape[0]
    weight = jnp.full((rows,), 1 / rows, jnp.float32)
    loss = make_loss(g.model, label_smoothing=smoothing, chunk=4)
    return lambda trainable, frozen: loss(trainable, frozen, batch, weight, None)


def loss(g: Golden) -> Iterator[Check]:
    """Loss and gradients, with and without label smoothing."""
    t = g.load("train.npz")
    supervised = t["mask_loss"][:, 1:] > 0
    for prefix in sorted({k.split("/")[0] for k in t if k.endswith("/training_loss")}):
        value_and_grad = jax.jit(
            jax.value_and_grad(_loss_fn(g, t, float(prefix.removeprefix("ls"))), has_aux=True)
        )
        (value, tokens), grads = value_and_grad(g.flat, {})
        yield f"{prefix} loss", _rel(value, t[f"{prefix}/training_loss"]), RELATIVE
        want = np.where(supervised, -t[f"{prefix}/token_pplx"], 0.0)  # stored as log-probabilities
        yield f"{prefix} token losses", _rel(tokens, want), RELATIVE
        per_row = np.asarray(tokens).sum(1) / np.maximum(supervised.sum(1), 1)
        yield f"{prefix} example losses", _rel(per_row, t[f"{prefix}/pplx"]), RELATIVE
        total = float(t[f"{prefix}/l2_grads"])
        norm = np.sqrt(sum(np.square(np.asarray(x, np.float64)).sum() for x in grads.values()))
        yield f"{prefix} gradient norm", _rel(norm, total), RELATIVE
        worst = 0.0
        for key, want in t.items():
            if key.startswith(f"{prefix}/grad_l2/"):
                got = np.linalg.norm(np.asarray(grads[key.split("grad_l2/")[1]], np.float64))
                worst = max(worst, abs(got - want) / max(want, 1e-3 * total))
            elif key.startswith(f"{prefix}/grad/"):
                got = grads[key.split("grad/")[1]]
                worst = max(worst, _diff(got, want) / max(np.abs(want).max(), 1e-3 * total))
            elif key.startswith(f"{prefix}/grad_rows/"):
                name = key.split("grad_rows/")[1]
                got = grads[name][t[f"{prefix}/grad_rows_idx/{name}"]]
                worst = max(worst, _rel(got, want))
        yield f"{prefix} gradients", worst, RELATIVE


def _train(g: Golden, t: dict, rules, schedule, steps: int, **optimizer):
    names = list(g.flat)
    multipliers = split_trainable(rules, names)
    trainable = {n: g.flat[n] for n in multipliers}
    frozen = {n: x for n, x in g.flat.items() if n not in multipliers}
    tx = make_optimizer(schedule=schedule, lr_multipliers=multipliers, names=names, **optimizer)
    state = tx.init(trainable)
    step = jax.jit(jax.value_and_grad(_loss_fn(g, t, 0.0), has_aux=True))
    losses, grad_norms = [], []
    for _ in range(steps):
        (value, _), grads = step(trainable, frozen)
        losses.append(value)
        grad_norms.append(np.sqrt(sum(np.square(np.asarray(x)).sum() for x in grads.values())))
        trainable, state, _ = apply_optimizer(tx, grads, state, trainable)
    (after, _), _ = step(trainable, frozen)
    return losses, grad_norms, after, {**frozen, **trainable}


def sgd(g: Golden) -> Iterator[Check]:
    """Three steps of the T4 recipe: attention matrices of the decoder, plain SGD."""
    t = g.load("train.npz")
    for name in sorted({k.split("/")[0] for k in t if k.startswith("sgd_") and "/lr" in k}):
        rates = jnp.asarray(t[f"{name}/lr"])
        losses, _, after, params = _train(
            g,
            t,
            [("llm/layers/attn/.*", True), (".*", False)],
            lambda i, r=rates: r[i],
            len(rates),
            name="sgd",
            lr=1.0,
        )
        yield f"{name} losses", _rel(losses, t[f"{name}/losses"]), RELATIVE
        yield f"{name} loss after", _rel(after, t[f"{name}/loss_after"]), RELATIVE
        start = f"{name}/params/"
        worst = max(_rel(params[k[len(start) :]], v) for k, v in t.items() if k.startswith(start))
        yield f"{name} parameters", worst, RELATIVE


def adam(g: Golden) -> Iterator[Check]:
    """Adam steps with clipping, decay, warm-up, freezing and multipliers (manifest: train)."""
    t = g.load("train.npz")
    everything, kernels = [(".*", True)], [(".*/kernel", 1.0), (".*", 0.0)]
    cases = {
        "adam": (everything, 1e-4, kernels),
        "adam_freeze_img": ([("img/.*", False), (".*", True)], 1e-4, kernels),
        "adam_lrmults_wdmults": (
            [("img/.*", 0.1), (".*", True)],
            0.05,
            [("img/.*/kernel", 1.0), ("llm/.*/w", 0.5), (".*", 0.0)],
        ),
    }
    for name, (rules, decay, decay_rules) in cases.items():
        if f"{name}/loss" not in t:
            continue
        total = len(t[f"{name}/sched"]) - 1
        schedule = make_schedule(total_steps=total, decay="cosine", warmup_percent=0.2)
        got = [schedule(jnp.int32(i)) for i in range(total + 1)]
        yield f"{name} schedule", _diff(got, t[f"{name}/sched"]), RELATIVE
        losses, norms, _, params = _train(
            g,
            t,
            rules,
            schedule,
            len(t[f"{name}/loss"]),
            name="adam",
            lr=1e-3,
            weight_decay=decay,
            decay_rules=decay_rules,
            grad_clip_norm=1.0,
            args={"b2": 0.999},
        )
        yield f"{name} losses", _rel(losses, t[f"{name}/loss"]), RELATIVE
        yield f"{name} gradient norms", _rel(norms, t[f"{name}/l2_grads"]), RELATIVE
        worst = 0.0
        for n, x in params.items():
            want = t[f"{name}/checksum/{n}"]
            # Adam turns a gradient that is zero but for rounding (key biases cancel in the
            # softmax) into steps of full size and random sign; no two programs agree on those.
            if t[f"ls0.0/grad_l2/{n}"] < 1e-6 * t["ls0.0/l2_grads"]:
                continue
            x = np.asarray(x, np.float64)
            worst = max(worst, abs(np.abs(x).sum() - want[1]) / want[1])
            worst = max(worst, abs(np.square(x).sum() - want[2]) / want[2])
        yield f"{name} parameter sums", worst, RELATIVE


def text(g: Golden) -> Iterator[Check]:
    """Special tokens, text arrays and round trips; counts what differs."""
    spec = json.loads((g.folder / "text.json").read_text())
    for key in ("tokenizer", "extended_tokenizer"):
        tok = Tokenizer.from_file(g.folder / spec[key])
        ids = {
            "vocab_size": tok.vocab_size,
            "pad": tok.pad_id,
            "eos": tok.eos_id,
            "bos": tok.bos_id,
            "newline": list(tok.newline_ids),
            "loc0": [tok.loc_id(0)],
            "loc1023": [tok.loc_id(1023)],
            "seg0": [tok.seg_id(0)],
            "seg127": [tok.seg_id(127)],
            "pieces": [tok.piece(i) for i in range(tok.vocab_size)],
        }
        wrong = sum(ids[k] != spec[k] for k in ids)
        yield f"{key} ids", float(wrong), EXACT
        wrong = 0
        for case in spec["cases"]:
            length, prefix, suffix = case["text_len"], case["prefix"], case["suffix"]
            options = {"on_truncate": "truncate", "allow_unsupervised": True}
            got = {
                "train": training_arrays(tok, prefix, suffix, length, **options),
                "eval_nosuffix": answering_arrays(tok, prefix, length, on_truncate="truncate"),
                "eval_suffix": answering_arrays(
                    tok, prefix, length, suffix=suffix, on_truncate="truncate"
                ),
            }
            for name, arrays in got.items():
                wrong += any(np.asarray(arrays[k]).tolist() != v for k, v in case[name].items())
            wrong += tok.encode(prefix, bos=True) != case["prefix_ids"]
            wrong += tok.encode(suffix, eos=True) != case["suffix_ids"]
            wrong += tok.decode(case["train"]["text"]) != case["to_str_train_text"]
        yield f"{key} arrays", float(wrong), EXACT
        wrong = sum(tok.encode(c["text"]) != c["plain"] for c in spec["to_int"])
        wrong += sum(
            tok.encode(c["text"], bos=True, eos=True) != c["bos_eos"] for c in spec["to_int"]
        )
        wrong += sum(tok.decode(c["plain"]) != c["back"] for c in spec["to_int"])
        for case in spec["to_str"]:
            wrong += tok.decode(case["ids"]) != case["stop"]
            wrong += tok.decode(case["ids"], stop_at_eos=False) != case["nostop"]
        yield f"{key} round trips", float(wrong), EXACT


# The pipeline that stands for each of the reference's names.
RESIZES = {
    "bv_resize224": "resize(224)",
    "bv_resize224_aa": "resize(224, antialias=True)",
    "bv_resize_rect_aa": "resize((40, 70), antialias=True)",
    "bv_resize56_vr": "resize(56)|value_range(-1, 1)",
    "bv_resize56_aa_vr": "resize(56, antialias=True)|value_range(-1, 1)",
    "bv_resize56_bicubic_aa": "resize(56, method='bicubic', antialias=True)",
    "bv_resize56_area": "resize(56, method='area')",
    "bv_resize_small32": "resize_small(32)",
    "bv_resize_long48": "resize_long(48)",
    "colab56": "resize(56, antialias=True, rounding='none')|value_range(-1, 1)",
    "hf_tv_bicubic224_u8": "resize(224, 'bicubic', antialias=True, rounding='torchvision')",
    "hf_tv_bicubic56_u8": "resize(56, 'bicubic', antialias=True, rounding='torchvision')",
    "hf_pil_bicubic224_u8": "resize(224, 'bicubic', antialias=True, rounding='pillow')",
    "hf_pil_bicubic56_u8": "resize(56, 'bicubic', antialias=True, rounding='pillow')",
}


def images(g: Golden) -> Iterator[Check]:
    """Decoding and resizing, in grey levels."""
    arrays = g.load("image.npz")
    worst: dict[str, float] = {}
    for key, want in arrays.items():
        op, _, picture = key.partition("/")
        if op in RESIZES and f"in/{picture}" in arrays:
            got = Pipeline.parse(RESIZES[op])({"image": arrays[f"in/{picture}"]})["image"]
            scale = 127.5 if want.dtype == np.float32 else 1.0
            worst[op] = max(worst.get(op, 0.0), scale * _diff(got, want))
        elif op == "dec" and picture.endswith("_png"):
            got = decode_image(arrays[f"enc/{picture}"].tobytes())
            worst["decode png"] = max(worst.get("decode png", 0.0), _diff(got, want))
        elif op == "dec_precise":
            got = decode_image(arrays[f"enc/{picture}"].tobytes())
            worst["decode jpeg"] = max(worst.get("decode jpeg", 0.0), _diff(got, want))
    for name, diff in worst.items():
        yield name, diff, GREY + 1e-3


GROUPS: dict[str, Callable[[Golden], Iterator[Check]]] = {
    "forward": forward,
    "masks": masks,
    "decode": decode,
    "loss": loss,
    "sgd (T4 recipe)": sgd,
    "adam": adam,
    "text": text,
    "images": images,
}


def main(argv: list[str] | None = None) -> int:
    """Prints one line a check and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="a folder with manifest.json")
    args = parser.parse_args(argv)
    if not (args.folder / "manifest.json").is_file():
        print(f"error: {args.folder} has no manifest.json.", file=sys.stderr)
        return 2
    jax.config.update("jax_default_matmul_precision", "highest")
    golden = Golden(args.folder)
    failed = []
    for group, checks in GROUPS.items():
        for what, diff, tolerance in checks(golden):
            ok = diff <= tolerance
            print(
                f"{'PASS' if ok else 'FAIL'}  {group:<16} {what:<34} {diff:9.2e}  (≤ {tolerance:g})"
            )
            if not ok:
                failed.append(f"{group}: {what}")
    for group in NOT_COVERED:
        print(f"----  {group:<16} not covered yet")
    print(f"{len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
