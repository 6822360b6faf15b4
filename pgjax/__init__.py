"""PaliGemma in JAX and Flax: inference, fine-tuning and evaluation.

    model = pgjax.load("mix-224")
    model.generate("bee.jpg", "caption en")

`load` opens a checkpoint as a `Model`. `read_config` and `finetune` train from Python as
`pgjax train` does from the command line. `show`, `show_examples`, `show_run` and `curves` make
pictures for notebooks, which `checkpoint_or_tiny` gives a checkpoint that can be had.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgjax.commands.config_files import read_config
    from pgjax.data.scene_files import write_scenes
    from pgjax.errors import UserError
    from pgjax.finetuning import FineTuned, finetune
    from pgjax.inference.answer import Answer
    from pgjax.inference.detections import DetectedObject, Detections
    from pgjax.inference.load import load
    from pgjax.inference.model import Model
    from pgjax.notebook import checkpoint_or_tiny
    from pgjax.pictures import curves, show, show_examples, show_run

__version__ = "0.1.0"

# The one place that holds the address; what shows it elsewhere is compared with this one.
REPOSITORY = "https://github.com/pgjax/pgjax"

__all__ = [
    "Answer",
    "DetectedObject",
    "Detections",
    "FineTuned",
    "Model",
    "UserError",
    "checkpoint_or_tiny",
    "curves",
    "finetune",
    "load",
    "read_config",
    "show",
    "show_examples",
    "show_run",
    "write_scenes",
]

# The module of each public name. It is imported at the first use, so that `import pgjax` is fast
# and takes neither jax nor a device.
_HOME = {
    "Answer": "pgjax.inference.answer",
    "DetectedObject": "pgjax.inference.detections",
    "Detections": "pgjax.inference.detections",
    "FineTuned": "pgjax.finetuning",
    "Model": "pgjax.inference.model",
    "UserError": "pgjax.errors",
    "checkpoint_or_tiny": "pgjax.notebook",
    "curves": "pgjax.pictures",
    "finetune": "pgjax.finetuning",
    "load": "pgjax.inference.load",
    "read_config": "pgjax.commands.config_files",
    "show": "pgjax.pictures",
    "show_examples": "pgjax.pictures",
    "show_run": "pgjax.pictures",
    "write_scenes": "pgjax.data.scene_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pgjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
