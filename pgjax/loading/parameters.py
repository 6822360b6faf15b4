"""Loads parameters onto the mesh, for training and for inference.

They come from random initialisation, from a checkpoint, or from a run directory, which holds the
parameters that the run trained and names the source of all others.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax

from pgjax import trees
from pgjax.checkpoints.finite import Checked, refuse_nonfinite
from pgjax.checkpoints.fitting import fit_to_model
from pgjax.checkpoints.formats import Checkpoint, open_checkpoint
from pgjax.checkpoints.placement import place
from pgjax.checkpoints.resume import FOLDER, Checkpoints
from pgjax.config import RunConfig, to_dict
from pgjax.errors import UserError
from pgjax.loading.decode_layout import to_decode_layout
from pgjax.loading.model_context import (
    Flat,
    ModelContext,
    for_answering,
    open_model_context,
)
from pgjax.loading.quantize_on_load import quantize_layers
from pgjax.loading.run_directory import is_run, read_run
from pgjax.loading.storage import storage_dtypes, with_quantized
from pgjax.models.lora import is_adapter, lora_config
from pgjax.models.paligemma import init_params
from pgjax.models.quantized import KINDS
from pgjax.text.tokenizer import Tokenizer


def load_parameters(
    context: ModelContext,
    storage: Mapping[str, str],
    *,
    decode_layout: bool = False,
    base: str | None = None,
    step: int | str | None = None,
) -> Flat:
    """Loads all parameters from the source that the config's `init` names.

    LoRA adapters that the source lacks are initialised such that they do not change the model.

    Args:
      context: the model on its mesh; its config names the source, "" for random initialisation.
      storage: a float dtype or a kind of quantization (int8, int4, nf4), by parameter.
      decode_layout: whether the result is in the layout of `to_decode_layout`, for inference;
        otherwise layers are stacked, for training.
      base: the checkpoint beneath, where the source is a run directory; None for the one that it
        started from.
      step: which checkpoint of a run directory, see `RunDirectory.choose_step`.

    Returns:
      The parameters by name, on the devices.

    Raises:
      UserError: the source is not found, is damaged, or does not fit the model.
    """
    loader = _loader(context, storage, decode_layout)
    return dataclasses.replace(loader, base=base, step=step).from_init(context.config)


def place_checkpoint(
    context: ModelContext, checkpoint: Checkpoint, storage: Mapping[str, str]
) -> Flat:
    """Loads an opened checkpoint into the decode layout, for inference; see `load_parameters`.

    Raises:
      UserError: the checkpoint is damaged, or does not fit the model.
    """
    loader = _loader(context, storage, True)
    return loader.from_tensors(
        checkpoint.tensors,
        loader.targets,
        what=f"Checkpoint {checkpoint.path}",
        lora=checkpoint.spec.get("lora"),
    )


def open_run(
    path: pathlib.Path | str,
    *,
    dtype: str | None = None,
    mesh: Mapping[str, int] | None = None,
    quantize: str | None = None,
    quantize_images: bool = False,
    decode_layout: bool = False,
    base: str | None = None,
    step: int | str | None = None,
) -> tuple[ModelContext, Flat]:
    """Opens a run directory and loads a checkpoint of it on this machine's devices.

    Args:
      path: the `--workdir` of a training run.
      dtype: of the parameters that are not quantized; None keeps the dtypes of training.
      mesh: sizes of `data` and `model`, see `for_answering`.
      quantize: int8, int4 or nf4, for the matrices that the run did not quantize; None for none.
      quantize_images: whether the image tower's matrices are quantized as well.
      decode_layout: as for `load_parameters`.
      base: as for `load_parameters`.
      step: as for `load_parameters`.

    Raises:
      UserError: it is not a run directory, or holds no such checkpoint that is complete.
    """
    run = read_run(path)
    context = open_model_context(
        for_answering(run.config, mesh), Tokenizer.from_file(run.tokenizer)
    )
    start = dataclasses.replace(context, config=dataclasses.replace(context.config, init=str(path)))
    stored = storage_dtypes(context, run.trained)
    stored = {name: x if x in KINDS else dtype or x for name, x in stored.items()}
    stored = with_quantized(stored, context, quantize, quantize_images)
    params = load_parameters(start, stored, decode_layout=decode_layout, base=base, step=step)
    return context, params


def _loader(context: ModelContext, storage: Mapping[str, str], decode_layout: bool) -> "_Loader":
    kinds = {name: kind for name, kind in storage.items() if kind in KINDS}
    targets = {
        name: jax.ShapeDtypeStruct(
            shape, "float32" if name in kinds else storage[name], sharding=context.shardings[name]
        )
        for name, shape in context.shapes.items()
    }
    return _Loader(context, targets, kinds, decode_layout)


@dataclasses.dataclass(frozen=True)
class _Loader:
    """Loads the parameters of one model in one layout.

    Attributes:
      context: the model on its mesh.
      targets: shape, dtype and sharding of each parameter; float32 for those to be quantized.
      kinds: the kind of quantization of each parameter that is quantized.
      decode_layout: whether the decoder's layers are taken apart, for inference.
      base: the checkpoint beneath a run directory; None for the one that it started from.
      step: which checkpoint of a run directory; None for the newest.
    """

    context: ModelContext
    targets: dict[str, jax.ShapeDtypeStruct]
    kinds: dict[str, str]
    decode_layout: bool
    base: str | None = None
    step: int | str | None = None

    def from_init(
        self,
        config: RunConfig,
        but: Collection[str] = (),
        above: tuple[pathlib.Path, ...] = (),
    ) -> Flat:
        """Loads from a config's `init`, without the parameters in `but`.

        Those are the parameters that the runs `above` have trained, which started from this source.
        """
        source = config.init
        wanted = {name: t for name, t in self.targets.items() if name not in but}
        if not wanted:
            return {}
        if not source:
            return self._converted(self._random(wanted, config.seed))
        if is_run(path := pathlib.Path(os.path.expanduser(source))):
            return self._from_run(path, but, above)
        checkpoint = open_checkpoint(source)
        return self.from_tensors(
            {name: x for name, x in checkpoint.tensors.items() if name not in but},
            wanted,
            what=f"Checkpoint {checkpoint.path}",
            lora=checkpoint.spec.get("lora"),
        )

    def from_tensors(
        self,
        tensors: Mapping[str, Any],
        wanted: Mapping[str, jax.ShapeDtypeStruct],
        *,
        what: str,
        lora: Mapping[str, Any] | None,
    ) -> Flat:
        """Brings tensors to the devices, and initialises the adapters that they lack."""
        _check_adapters(what, lora, self.context)
        new = {n: t for n, t in wanted.items() if is_adapter(n) and n not in tensors}
        wanted = {name: t for name, t in wanted.items() if name not in new}
        checked = {name: Checked(x) for name, x in fit_to_model(tensors, wanted, what=what).items()}
        tensors = dict(checked)
        made = self._converted(self._random(new, self.context.config.seed)) if new else {}
        converted = self._convert(tensors, wanted)  # removes from `tensors` what it converts
        rest = {name: wanted[name] for name in tensors}
        placed = place(tensors, rest)
        refuse_nonfinite(checked, what=what)
        return {**converted, **placed, **made}

    def _convert(
        self, values: dict[str, Any], targets: Mapping[str, jax.ShapeDtypeStruct] | None
    ) -> dict[str, Any]:
        """Removes the values that are quantized or taken apart, and returns them converted."""
        kinds = {name: kind for name, kind in self.kinds.items() if name in values}
        if self.decode_layout:
            return to_decode_layout(values, targets, kinds=kinds)
        return quantize_layers(values, targets, kinds, unstacked=False)

    def _converted(self, arrays: Flat) -> Flat:
        """The arrays with those converted that `_convert` converts."""
        converted = self._convert(arrays, None)
        return {**arrays, **converted}

    def _random(self, targets: Mapping[str, jax.ShapeDtypeStruct], seed: int) -> Flat:
        """Initialises the parameters of `targets`."""

        @functools.partial(jax.jit, out_shardings={n: t.sharding for n, t in targets.items()})
        def init(key):
            flat = trees.flatten(init_params(self.context.model, key))
            return {name: flat[name].astype(t.dtype) for name, t in targets.items()}

        return init(jax.random.key(seed))

    def _from_run(
        self, path: pathlib.Path, but: Collection[str], above: tuple[pathlib.Path, ...]
    ) -> Flat:
        """Loads the parameters that a run trained, and all others from the run's own source."""
        run, what = read_run(path), f"Run directory {path}"
        if path.resolve() in above:
            raise UserError(f"{what} starts from itself.")
        checkpoints = Checkpoints(path, read_only=True) if (path / FOLDER).is_dir() else None
        step = run.choose_step(
            checkpoints.steps() if checkpoints else (), None if above else self.step
        )
        assert checkpoints is not None  # it has the step
        _check_adapters(what, to_dict(run.config.model.lora), self.context)
        if foreign := sorted({*run.trained} - self.targets.keys()):
            raise UserError(
                f"{what} trained {len(foreign)} parameters that this config's model does not have, "
                f"such as {foreign[0]!r}."
            )
        if damage := checkpoints.damage(step, ["params"]):
            raise UserError(
                f"The checkpoint {checkpoints.folder}/step_{step} is damaged ({damage}); bring it "
                "back, or move it away to use the one before it."
            )
        params = checkpoints.restore_params(step, {n: self.targets[n] for n in run.trained})
        refuse_nonfinite(params, what=f"The checkpoint {checkpoints.folder}/step_{step}")
        params = self._converted({n: x for n, x in params.items() if n not in but})
        but = {*but, *run.trained}
        if self.targets.keys() <= but:
            return params
        init = self.base if self.base and not above else run.find_base()
        source = dataclasses.replace(run.config, init=init)
        return {**self.from_init(source, but, (*above, path.resolve())), **params}


def _check_adapters(what: str, spec: Mapping[str, Any] | None, context: ModelContext) -> None:
    """Checks that the adapters which a source holds are those of this model.

    Args:
      what: the source, for messages.
      spec: the section `model.lora` of the source; None where it has no adapters.
      context: this model.

    Raises:
      UserError: this model has no adapters, or their rank or scale differs.
    """
    theirs, ours = lora_config(spec or {}), context.model.lora
    if not theirs.rank:
        return
    if not ours.rank:
        raise UserError(
            f"{what} holds LoRA adapters, and this config's model.lora.rank is 0; merge them into "
            "a checkpoint with `pgjax convert` and start from that."
        )
    kinds = [(x.rank, x.alpha, x.rslora) for x in (theirs, ours)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{what} holds LoRA adapters of (rank, alpha, rslora) {kinds[0]}, but this config's "
            f"model.lora says {kinds[1]}."
        )
