"""Evaluates: `python -m pgjax.evaluate --run DIR [--config.evals.…]`, or a config with its init."""

import json
import pathlib

from absl import flags
from ml_collections import config_flags

from pgjax import cli
from pgjax.errors import UserError

_RUN = flags.DEFINE_string("run", None, "Run directory: its newest checkpoint and its evals.")
_CONFIG = config_flags.DEFINE_config_file("config", None, "Or a config: its init and its evals.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "With --config: instead of config.init.")
_ONLY = flags.DEFINE_list("evals", None, "Names of the evaluations to run; left out: all.")
_OUT = flags.DEFINE_string("out", None, "Folder for predictions and scores; default: the run's.")


def main() -> None:
    """Reads the flags and runs the evaluations."""
    from pgjax.compilation import cache_compilations
    from pgjax.evaluation.runner import evaluate
    from pgjax.inference.session import load_params, open_run, open_session

    if (_RUN.value is None) == (_CONFIG.value is None):
        raise UserError("Give either --run or --config.")
    cache_compilations()
    if _RUN.value is not None:
        session, params = open_run(_RUN.value)
        out = pathlib.Path(_OUT.value or _RUN.value) / "evaluation"
    else:
        config = cli.open_config(_CONFIG).to_dict()
        if _CHECKPOINT.value is not None:
            config["init"] = _CHECKPOINT.value
        session = open_session(config)
        params = load_params(session, lambda _: config["trainable_dtype"])
        if _OUT.value is None:
            raise UserError("--out is missing; it is where predictions and scores go.")
        out = pathlib.Path(_OUT.value)
    scores = evaluate(session, params, session.config["evals"], _ONLY.value, out)
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    cli.run(main)
