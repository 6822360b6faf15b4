"""The announcement's table of the mix checkpoints, MMVP and POPE, in one go.

    python -m pgjax.evaluate --benchmarks configs/mix_eval.py

Arguments: `mix_eval.py:res=448`; `init=…` evaluates another checkpoint.
"""

from pgjax.recipes import parse_arg


def get_config(arg=None):
    """The configs to evaluate, as `--benchmarks` takes them."""
    arg = parse_arg(arg, res=224, init="")
    init = arg.init or f"mix-{arg.res}"
    return tuple(f"{name}:res={arg.res},init={init}" for name in ("mmvp", "pope"))
