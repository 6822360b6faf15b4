"""Fine-tuning from Python, for notebooks: `pgjax.finetune`."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from pgjax.loading.compiler_options import cache_compilations
from pgjax.training.loop import train


def finetune(
    config: ConfigDict | Mapping[str, Any],
    workdir: str | os.PathLike[str],
    *,
    watch: Callable[[Image.Image], object] | None = None,
) -> dict[str, dict[str, float]]:
    """Trains as the command `pgjax train` does.

        config = pgjax.read_config("forkme:mode=qlora", {"total_steps": 200})
        scores = pgjax.finetune(config, "runs/captions", watch=display)

    Args:
      config: from `pgjax.read_config`, or a plain dict of the same keys.
      workdir: run directory; a run that was interrupted there is resumed.
      watch: called after each evaluation that stores predictions with a picture of some of them,
        such as `display` in a notebook.

    Returns:
      The final scores, by evaluation and metric.

    Raises:
      UserError: the config and the data, the checkpoint or the devices do not go together; the
        run directory stays resumable.
    """
    cache_compilations()
    return train(config, pathlib.Path(workdir).expanduser(), watch=watch)
