"""The mix checkpoints of PaliGemma's announcement, on MMVP and POPE.

    pgjax evaluate --benchmarks mix_eval

Arguments, as in `mix_eval:res=448`:
    res       image size of the mix checkpoint: 224 or 448
    init      another checkpoint to evaluate instead
"""

from pgjax.recipes import parse_arg


def get_config(arg=None):
    """Names the configs to evaluate, as `--benchmarks` takes them."""
    arg = parse_arg(arg, res=224, init="")
    init = arg.init or f"mix-{arg.res}"
    return tuple(f"{name}:res={arg.res},init={init}" for name in ("mmvp", "pope"))
