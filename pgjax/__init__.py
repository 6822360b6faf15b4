"""PaliGemma in JAX/Flax: `pgjax.load` to ask a checkpoint, `python -m pgjax.train` to tune one."""

__version__ = "0.1.0"


def load(source, **options):
    """Loads a checkpoint, ready to be asked; see `pgjax.inference.load.load`."""
    from pgjax.inference.load import load

    return load(source, **options)
