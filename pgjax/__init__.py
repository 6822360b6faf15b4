"""PaliGemma in JAX/Flax: `pgjax.load` to ask a checkpoint, `pgjax train` to tune one.

The same from Python, for notebooks: `read_config` and `finetune`; `show`, `show_examples`,
`show_run` and `curves` make pictures to look at.
"""

import importlib

__version__ = "0.1.0"

# Where what is public here lives; imported when it is first used.
_PUBLIC = {
    "curves": "pgjax.pictures",
    "read_config": "pgjax.commands.config_files",
    "show": "pgjax.pictures",
    "show_examples": "pgjax.pictures",
    "show_run": "pgjax.pictures",
    "write_scenes": "pgjax.data.scene_files",
}


def load(source, **options):
    """Loads a checkpoint, ready to be asked; see `pgjax.inference.load.load`."""
    from pgjax.inference.load import load

    return load(source, **options)


def finetune(config, workdir, *, watch=None):
    """Trains as `pgjax train` does; see `pgjax.training.loop.train`.

    Args:
      config: from `read_config`.
      workdir: run directory; an earlier run there goes on.
      watch: called with a picture of some answers after each evaluation: `display` in a notebook.

    Returns:
      The final scores by evaluation.
    """
    import pathlib

    from pgjax.loading.compiler_options import cache_compilations
    from pgjax.training.loop import train

    cache_compilations()
    return train(config, pathlib.Path(workdir).expanduser(), watch=watch)


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pgjax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PUBLIC])
