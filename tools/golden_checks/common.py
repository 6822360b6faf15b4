"""The folder of reference outputs, with its model."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.checkpoints.npz import read_npz
from pgjax.models.paligemma import abstract_params, make_model

HALF = 2e-3  # the absolute tolerance of bfloat16, where a last float32 bit can change the rounding

Check = tuple[str, float, float]  # what is compared, the difference, and the tolerance


class Golden:
    """A folder of reference outputs, with its model and parameters."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Reads the manifest and the parameters."""
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
        """Reads an `.npz` of the folder."""
        with np.load(self.folder / name) as arrays:
            return dict(arrays)

    def run(self, method: str | None, *args, **kwargs):
        """Calls a method of the model with the folder's parameters."""
        return self.model.apply(self.variables, *args, method=method, **kwargs)


def _boxed(x) -> bool:
    return hasattr(x, "unbox")
