"""What the checks share: the folder with its model, tolerances, and differences."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.checkpoints.npz import read_npz
from pgjax.models.paligemma import abstract_params, make_model

LOGITS = 5e-5  # largest absolute difference of float32 logits
HALF = 2e-3  # of what went through bfloat16, where a last float32 bit decides how a value rounds
RELATIVE = 1e-5  # of losses and gradients
EXACT = 0.0  # tokens, masks, text
GREY = 1.0  # of 255

Check = tuple[str, float, float]  # what, difference, tolerance


class Golden:
    """The folder, its model, and its parameters."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        spec = self.manifest["model"]
        sizes = ("width", "depth", "mlp_dim", "num_heads", "patch_size")
        img = {k: spec["img"][k] for k in sizes}
        self.sizes = {"res": spec["res"], "img": img, "llm": spec["llm"]}
        self.model = make_model(self.sizes)
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


def diff(got, want) -> float:
    """Largest absolute difference; infinite for a wrong shape."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0))


def rel(got, want) -> float:
    """Largest difference as a share of the largest value wanted."""
    return diff(got, want) / max(float(np.abs(want).max(initial=0.0)), 1e-30)
