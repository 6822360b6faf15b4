"""Trains the small mask codec that ships with pgjax, on masks that it draws itself.

    python tools/train_mask_codec.py --out pgjax/checkpoints/tiny_vae.npz

The codec has the layout of the released one (`vae-oid.npz`) with narrower layers. Each code is the
exponential moving average of the encodings that are assigned to it (van den Oord et al.,
arXiv:1711.00937, appendix A.1); a code without any is set to a random encoding. At the end, the
codes of the drawn scenes' shapes are printed, which are to be copied into `pgjax/data/scenes.py`.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image, ImageDraw
from tqdm import tqdm

from pgjax.checkpoints.npz import write_arrays
from pgjax.data.masks import SIDE, crop_mask, mask_box
from pgjax.data.scenes import OUTLINES, coverage
from pgjax.models import vqvae

WIDTHS, CODE_DIM = (8, 16, 32, 48), 64
BATCH = 64
DECAY = 0.99  # the decay of the moving averages
WARM_UP = 0.2  # the share of steps without quantization, so that the first codes have a meaning
WHOLE = (0.0, 0.0, 1.0, 1.0)


def draw_mask(rng: np.random.Generator) -> np.ndarray:
    """Draws a mask that fills its box, float32 [64, 64] in 0..1."""
    family = rng.integers(4)
    if family == 0:  # a shape of the drawn scenes, in the sizes that occur there
        kind = list(OUTLINES)[rng.integers(len(OUTLINES))]
        return crop_mask(coverage(kind, int(rng.integers(14, 65)))[..., 0], WHOLE)
    picture = Image.new("L", (128, 128))
    draw = ImageDraw.Draw(picture)
    if family == 1:  # an ellipse or two
        for _ in range(rng.integers(1, 3)):
            (x0, y0), (w, h) = rng.integers(0, 70, 2), rng.integers(20, 58, 2)
            draw.ellipse((x0, y0, x0 + w, y0 + h), fill=255)
    elif family == 2:  # a star-shaped polygon
        corners = int(rng.integers(3, 10))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = rng.uniform(20, 60, corners)
        points = np.stack([64 + radii * np.cos(angles), 64 + radii * np.sin(angles)], axis=1)
        draw.polygon([tuple(p) for p in points], fill=255)
    else:  # a blob
        noise = rng.normal(size=(6, 6)) + 1.5 - np.hypot(*np.mgrid[-2.5:3:1, -2.5:3:1])
        smooth = Image.fromarray(noise.astype(np.float32)).resize((128, 128), Image.BICUBIC)
        picture = Image.fromarray(((np.asarray(smooth) > 0) * 255).astype(np.uint8))
    mask = np.asarray(picture, np.float32) / 255
    if mask.sum() < 50:
        return draw_mask(rng)
    return crop_mask(mask, mask_box(mask > 0))


def init(key: jax.Array) -> dict[str, jax.Array]:
    """Draws random parameters by the initialisation of He et al. (arXiv:1502.01852)."""
    flat = {}
    for i, (name, shape) in enumerate(vqvae.shapes(WIDTHS, CODE_DIM).items()):
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        scale = (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.0
        flat[name] = scale * jax.random.normal(jax.random.fold_in(key, i), shape)
    return flat


def loss_fn(weights, codebook, masks, quantize: bool):
    """Returns the squared error to masks of ±1, plus the commitment of the encoder to its codes."""
    z = vqvae.encoder(weights, masks)
    codes = vqvae.nearest(codebook, z)
    chosen = jnp.take(codebook, codes, axis=0)
    through = z + jax.lax.stop_gradient(chosen - z) if quantize else z
    error = jnp.mean(jnp.square(vqvae.decoder(weights, through) - (2 * masks - 1)))
    commitment = jnp.mean(jnp.square(z - chosen)) if quantize else 0.0
    return error + 0.25 * commitment, (z, codes, error)


def train(steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Trains the codec and returns its parameters."""
    weights = init(jax.random.key(seed))
    codebook = weights.pop(vqvae.CODEBOOK)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 100, steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    opt_state = tx.init(weights)
    counts, sums = jnp.ones(len(codebook)), codebook

    def step(weights, opt_state, codebook, counts, sums, masks, key, *, quantize):
        grad = jax.value_and_grad(loss_fn, has_aux=True)
        (_, (z, codes, error)), grads = grad(weights, codebook, masks, quantize)
        updates, opt_state = tx.update(grads, opt_state, weights)
        weights = optax.apply_updates(weights, updates)
        z, codes = z.reshape(-1, CODE_DIM), codes.reshape(-1)
        hits = jax.nn.one_hot(codes, len(codebook))
        counts = DECAY * counts + (1 - DECAY) * hits.sum(0)
        sums = DECAY * sums + (1 - DECAY) * jnp.einsum("NK,ND->KD", hits, z)
        picks = jax.random.choice(key, z, (len(codebook),), replace=False)
        dead = (counts < 0.02)[:, None] | (not quantize)
        sums = jnp.where(dead, picks, sums)
        counts = jnp.where(dead[:, 0], 1.0, counts)
        return weights, opt_state, sums / counts[:, None], counts, sums, error

    jitted = jax.jit(step, static_argnames="quantize")
    rng = np.random.default_rng(seed)
    with tqdm(total=steps, desc="mask codec", mininterval=5) as bar:
        for i in range(steps):
            masks = np.stack([draw_mask(rng) for _ in range(BATCH)])
            *state, error = jitted(
                weights, opt_state, codebook, counts, sums, masks,
                jax.random.fold_in(jax.random.key(seed + 1), i), quantize=i >= WARM_UP * steps,
            )  # fmt: skip
            weights, opt_state, codebook, counts, sums = state
            bar.update()
            if i % 100 == 99:
                bar.set_postfix_str(f"squared error {float(error):.4f}")
    flat = {**weights, vqvae.CODEBOOK: codebook}
    return {name: np.asarray(flat[name]) for name in vqvae.shapes(WIDTHS, CODE_DIM)}


def mean_iou(params: dict, masks: np.ndarray) -> float:
    """Returns the mean IoU of masks [n, 64, 64] with their reconstructions."""
    decoded = vqvae.decode(params, vqvae.encode(params, jnp.asarray(masks)))
    got, want = np.asarray(decoded) > 0, masks > 0.5
    return float(((got & want).sum((1, 2)) / (got | want).sum((1, 2))).mean())


def main() -> None:
    """Trains, writes the parameters in float16, and prints their quality."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the .npz to write")
    parser.add_argument("--steps", type=int, default=3000, help="the number of updates")
    args = parser.parse_args()
    flat = {name: x.astype(np.float16) for name, x in train(args.steps).items()}
    write_arrays(args.out, flat.items())
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")
    params = {name: jnp.asarray(x, jnp.float32) for name, x in flat.items()}
    rng = np.random.default_rng(10**6)
    print(f"mean IoU of 500 new masks: {mean_iou(params, _masks(rng, 500)):.3f}")
    for kind in OUTLINES:
        mask = crop_mask(coverage(kind, SIDE)[..., 0], WHOLE)[None]
        codes = np.asarray(vqvae.encode(params, jnp.asarray(mask)))[0].tolist()
        print(f"{kind}: {codes}, IoU {mean_iou(params, mask):.3f}")


def _masks(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.stack([draw_mask(rng) for _ in range(count)])


if __name__ == "__main__":
    main()
