"""Prints the temporary memory of a compiled training step, with chunked loss and full logits.

    python tools/bench/loss_memory.py [--batch 8] [--text_len 128] [--frozen_embedding]

The figures are XLA's analysis of the compiled step, which is not run, for the `mid` model with the
real vocabulary (257,152). The plain step makes float32 logits [b, t, v] and takes their softmax.
"""

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax import trees
from pgjax.models.loss import make_loss, shift
from pgjax.models.paligemma import PaliGemma, abstract_params, make_model
from pgjax.training.optimizer import make_optimizer, split_trainable
from pgjax.training.schedules import make_schedule
from pgjax.training.state import TrainState
from pgjax.training.step import make_train_step


def plain_loss(model: PaliGemma):
    """Makes the loss of `make_loss` from the logits of all positions at once."""

    def loss(trainable, frozen, batch, row_weight, key):
        del key
        variables = {"params": trees.unflatten({**frozen, **trainable})}
        text, mask_ar, targets, supervised = shift(
            batch["text"], batch["mask_ar"], batch["mask_loss"]
        )
        hidden = model.apply(variables, batch["image"], text, mask_ar)
        logits = model.apply(variables, hidden, method="logits")
        logp = jax.nn.log_softmax(logits)
        xent = -jnp.take_along_axis(logp, targets[:, :, None], axis=-1)[:, :, 0]
        xent = jnp.where(supervised, xent, 0.0)
        count = jnp.maximum(supervised.sum(axis=1), 1).astype(jnp.float32)
        return jnp.sum(row_weight * xent.sum(axis=1) / count), xent

    return loss


def compiled_step(model: PaliGemma, loss, rules, batch: int, text_len: int):
    """Compiles a training step without any arrays."""
    flat = trees.flatten(nn.unbox(abstract_params(model)))
    multipliers = split_trainable(rules, list(flat))
    schedule = make_schedule(total_steps=100)
    tx = make_optimizer(
        name="sgd", lr=0.03, schedule=schedule, lr_multipliers=multipliers, names=list(flat)
    )
    params = {n: flat[n] for n in multipliers}
    frozen = {n: flat[n] for n in flat if n not in multipliers}
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(params, jax.eval_shape(tx.init, params), step, key)
    side = int(model.num_patches**0.5) * model.img_config.patch_size[0]
    inputs = {"image": jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)} | {
        k: jax.ShapeDtypeStruct((batch, text_len + 1), jnp.int32)
        for k in ("text", "mask_ar", "mask_loss")
    }
    train_step = jax.jit(make_train_step(loss, tx, schedule), donate_argnums=0)
    return train_step.lower(state, frozen, inputs).compile()


def main() -> None:
    """Prints both figures and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=8, help="examples per step")
    parser.add_argument("--text_len", type=int, default=128, help="text tokens")
    parser.add_argument("--chunk", type=int, default=16, help="the loss_chunk")
    parser.add_argument(
        "--frozen_embedding", action="store_true", help="do not train the embedding"
    )
    args = parser.parse_args()
    spec = {"res": 224, "img": {"variant": "mid/14"}, "llm": {"variant": "gemma_mid"}}
    model = make_model(spec)
    rules = [("llm/embedder/.*", not args.frozen_embedding), (".*", True)]
    sizes = {}
    for name, loss in (
        (f"chunked ({args.chunk})", make_loss(model, label_smoothing=0.0, chunk=args.chunk)),
        ("full logits", plain_loss(model)),
    ):
        step = compiled_step(model, loss, rules, args.batch, args.text_len)
        sizes[name] = step.memory_analysis().temp_size_in_bytes / 2**20
        print(f"{name:<14} {sizes[name]:10.0f} MiB temporary")
    chunked, full = sizes.values()
    print(f"ratio {chunked / full:.2f} (batch {args.batch}, text {args.text_len}, V = 257,152)")


if __name__ == "__main__":
    main()
