"""Fine-tuning from Python, for notebooks and scripts: `pgjax.finetune`."""

import functools
import gc
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from pgjax.commands.config_files import read_config
from pgjax.config import RunConfig, to_dict
from pgjax.data.memory_source import MemorySource, hold
from pgjax.errors import UserError
from pgjax.inference.call_checks import checks_call
from pgjax.inference.load import load
from pgjax.inference.model import Model
from pgjax.loading.compiler_options import cache_compilations
from pgjax.training.loop import train

_FEW = 10  # examples, below which none is held out


class FineTuned(Mapping[str, dict[str, float]]):
    """The scores of a run, by evaluation and metric, and its model.

    Attributes:
      workdir: the run directory.
    """

    def __init__(self, scores: Mapping[str, dict[str, float]], workdir: pathlib.Path) -> None:
        """Keeps the scores; the model is loaded where it is asked for."""
        self._scores, self.workdir = dict(scores), workdir

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """The final scores, by evaluation and metric."""
        return self._scores

    @functools.cached_property
    def model(self) -> Model:
        """The model of the last checkpoint, as `pgjax.load(workdir)` opens it."""
        gc.collect()  # the parameters of training leave the memory first
        return load(self.workdir)

    def __getitem__(self, evaluation: str) -> dict[str, float]:
        return self._scores[evaluation]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __repr__(self) -> str:
        return f"FineTuned(workdir={str(self.workdir)!r}, scores={self._scores})"


@checks_call
def finetune(
    config: str | ConfigDict | RunConfig | Mapping[str, Any],
    workdir: str | os.PathLike[str],
    *,
    data: Any = None,
    eval_data: Any = None,
    watch: Callable[[Image.Image], object] | None = None,
    on_metrics: Callable[[int, Mapping[str, float]], object] | None = None,
) -> FineTuned:
    """Trains as the command `pgjax train` does.

        rows = [{"image": "bee.jpg", "prefix": "caption en", "suffix": "a bee on a flower"}, …]
        tuned = pgjax.finetune("forkme:mode=qlora,steps=200", "runs/captions", data=rows)
        tuned["val"], tuned.model.generate("other.jpg", "caption en")

    Args:
      config: a config as the command takes it, such as `forkme:mode=qlora`, one from
        `pgjax.read_config`, or a plain dict of the same keys.
      workdir: run directory; a run that was interrupted there is resumed.
      data: rows `{"image": …, "prefix": …, "suffix": …}` instead of the config's data: a list of
        dicts, a DataFrame, or a dataset of Hugging Face. The image is in any form that
        `Model.generate` takes. The last tenth is held out for the config's evaluations; below ten
        rows, all are trained on and evaluated.
      eval_data: rows for the evaluations; with them, all of `data` is trained on.
      watch: called after each evaluation that stores predictions with a picture of some of them,
        such as `display` in a notebook.
      on_metrics: called with the step and `{name: value}` whenever metrics are written, for plots.

    Returns:
      The final scores, by evaluation and metric, with the model at `.model`.

    Raises:
      UserError: the config and the data, the checkpoint or the devices do not go together; the
        run directory stays resumable.
    """
    if isinstance(config, str):
        config = read_config(config)
    if not isinstance(config, ConfigDict | RunConfig | Mapping):
        raise UserError(
            f"config is {config!r:.60}, expected the name of a config such as 'forkme', "
            "a config from pgjax.read_config, or a dict."
        )
    if not isinstance(workdir, str | os.PathLike) or not os.fspath(workdir):
        raise UserError(f"workdir is {workdir!r}, expected the folder of the run.")
    for name, function in (("watch", watch), ("on_metrics", on_metrics)):
        if function is not None and not callable(function):
            raise UserError(f"{name} is {function!r}, expected a function.")
    if data is None and eval_data is not None:
        raise UserError("eval_data is given without data; give both, or leave both out.")
    if data is not None:
        config = _with_data(config, data, eval_data)
    path = pathlib.Path(workdir).expanduser()
    cache_compilations()
    scores = train(config, path, watch=watch, on_metrics=on_metrics)
    return FineTuned(scores, path)


def _with_data(config: Any, data: Any, eval_data: Any) -> dict[str, Any]:
    """The config with data in memory, instead of its own, for training and all evaluations."""
    whole = to_dict(config) if isinstance(config, RunConfig) else _plain(config)
    name = hold(data)
    learn: dict[str, Any] = {"name": "memory", "rows": name}
    judge = dict(learn)
    if eval_data is not None:
        judge["rows"] = hold(eval_data)
    elif len(MemorySource(name)) >= _FEW:  # else a tenth is none
        learn["split"], judge["split"] = "train[:90%]", "train[90%:]"
    whole["input"] = {**whole.get("input", {}), "data": learn, "mixture": {}}
    whole["evals"] = {key: {**spec, "data": judge} for key, spec in whole.get("evals", {}).items()}
    return whole


def _plain(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    return config.to_dict() if isinstance(config, ConfigDict) else dict(config)
