"""Pretrains the tiny image tower by itself; `pretrain_tiny.py` calls this.

PaliGemma's tower is trained on images and texts before the decoder is attached. Here, a linear
layer, which is discarded afterwards, predicts from every image token what covers its patch: which
of its cells, and the kind, colour, size and box of the shape. This takes minutes; learning the same
from answers alone would take hours.
"""

from collections.abc import Iterator

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from pgjax import trees
from pgjax.data.scenes import CELLS, COLORS, OUTLINES, SIDES, SceneSource, coverage
from pgjax.models.siglip import Siglip

# The number of classes of each prediction for a patch: kind, colour and size of its shape, of which
# class 0 is "no shape", and the four edges of the shape's box, in cells.
QUESTIONS = (len(OUTLINES) + 1, len(COLORS) + 1, len(SIDES) + 1, *[CELLS + 1] * 4)


def pretrain_tower(
    tower: Siglip, params: dict[str, jax.Array], *, steps: int, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Trains the tower's parameters.

    Args:
      tower: the image tower with its head, which returns one token per patch.
      params: the float32 parameters to start from, by name.
      steps: the number of updates.
      batch_size: the number of images per update.

    Returns:
      The trained float32 parameters, by name.
    """
    params = trees.unflatten(jax.tree.map(jnp.asarray, params))
    side = round(tower.num_patches**0.5)
    cells = (CELLS // side) ** 2
    probe = jnp.zeros((tower.out_dim, sum(QUESTIONS) + cells))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 20, steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = (params, probe)
    opt_state = tx.init(state)
    ends = np.cumsum(QUESTIONS).tolist()

    def loss_fn(state, image, answers, covered):
        params, probe = state
        tokens, _ = tower.apply({"params": params}, image)
        *logits, cells = jnp.split(tokens @ probe, ends, axis=-1)
        shown = answers[..., 0] > 0
        losses, right = [], []
        for i, x in enumerate(logits):
            counts = jnp.ones_like(shown) if i < 3 else shown  # Without a shape there is no box.
            xent = optax.softmax_cross_entropy_with_integer_labels(x, answers[..., i])
            losses.append(jnp.sum(xent * counts) / jnp.maximum(jnp.sum(counts), 1))
            hit = (jnp.argmax(x, -1) == answers[..., i]) & shown
            right.append(jnp.sum(hit) / jnp.maximum(jnp.sum(shown), 1))
        losses.append(8 * jnp.mean(optax.sigmoid_binary_cross_entropy(cells, covered)))
        return sum(losses), jnp.stack(right)

    @jax.jit
    def step(state, opt_state, *batch):
        (loss, right), grads = jax.value_and_grad(loss_fn, has_aux=True)(state, *batch)
        updates, opt_state = tx.update(grads, opt_state, state)
        return optax.apply_updates(state, updates), opt_state, loss, right

    with tqdm(total=steps, desc="image tower", mininterval=5) as bar:
        for batch in _batches(batch_size, side, steps):
            state, opt_state, loss, right = step(state, opt_state, *batch)
            bar.update()
            if bar.n % 100 == 0:
                kind, color, size, *edges = right.tolist()
                bar.set_postfix_str(
                    f"loss {float(loss):.2f}; right in patches with a shape: kind {kind:.0%}, "
                    f"colour {color:.0%}, size {size:.0%}, edges {np.mean(edges):.0%}"
                )
    return {name: np.asarray(x) for name, x in trees.flatten(state[0]).items()}


def _batches(batch_size: int, side: int, steps: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields images float32 [b,h,w,3] in -1..1, answers int32 [b,p,7], coverage float32 [b,p,c]."""
    scenes = [
        SceneSource(split="tower", style=style, max_shapes=3, num_examples=steps * batch_size)
        for style in ("plain", "rich", "rich", "rich")
    ]

    def example(source: SceneSource, i: int):
        scene, shapes = source.draw(i)
        image = scene["image"].astype(np.float32) / 127.5 - 1
        return image, patch_answers(shapes, side), patch_coverage(shapes, side)

    data = grain.MapDataset.range(steps * batch_size).map(lambda i: example(scenes[i % 4], i))
    return iter(data.batch(batch_size).to_iter_dataset(grain.ReadOptions(2, 8)))


def patch_answers(shapes: list, side: int) -> np.ndarray:
    """Describes the shape in each patch of a scene.

    Args:
      shapes: the scene's shapes, each a `pgjax.data.scenes.Shape`.
      side: the number of patches along an edge of the image.

    Returns:
      int32 [side·side, 7]: kind, colour and size, counted from 1, and y0, x0, y1, x1 in cells, of
      the shape whose box covers most of the patch, or zeros if there is none.
    """
    answers = np.zeros((side, side, len(QUESTIONS)), np.int32)
    most = np.zeros((side, side))
    edges = np.arange(side + 1) * CELLS / side
    for shape in shapes:
        y0, x0, y1, x1 = shape.box
        tall = np.clip(np.minimum(edges[1:], y1) - np.maximum(edges[:-1], y0), 0, None)
        wide = np.clip(np.minimum(edges[1:], x1) - np.maximum(edges[:-1], x0), 0, None)
        covered = tall[:, None] * wide
        words = [
            1 + list(names).index(word)
            for names, word in ((OUTLINES, shape.kind), (COLORS, shape.color), (SIDES, shape.size))
        ]
        answers[covered > most] = [*words, *shape.box]
        most = np.maximum(most, covered)
    return answers.reshape(side * side, -1)


def patch_coverage(shapes: list, side: int) -> np.ndarray:
    """Returns the covered share of each cell, float32 [side·side, cells of a patch] in 0..1."""
    covered = np.zeros((CELLS, CELLS), np.float32)
    for shape in shapes:
        y0, x0, y1, x1 = shape.box
        covered[y0:y1, x0:x1] += coverage(shape.kind, y1 - y0)[..., 0]
    n = CELLS // side
    return covered.reshape(side, n, side, n).swapaxes(1, 2).reshape(side * side, n * n)
