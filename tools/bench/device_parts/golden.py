"""Checks against the reference outputs of a golden folder, as tools/check_golden.py has them."""

import pathlib
import sys
from typing import Any

TOOLS = pathlib.Path(__file__).parents[2]
# Of logits in bfloat16, norm of the difference over the norm; and of the loss. A CPU's bfloat16
# gives half of either on the project's own folder.
HALF_LOGITS = 0.06
HALF_LOSS = 5e-3


def run(case: Any, emit: Any) -> None:
    """A row for each group: the largest difference as a share of what is tolerated."""
    import jax

    sys.path.append(str(TOOLS))
    import check_golden
    from golden_checks.common import Golden

    jax.config.update("jax_default_matmul_precision", "highest")
    golden = Golden(pathlib.Path(case.options["folder"]))
    for group in case.options["groups"]:
        worst, which, count, failed = 0.0, "", 0, []
        for what, difference, tolerance in check_golden.GROUPS[group](golden):
            count += 1
            # What must be exact has no share: none of it, or all.
            share = difference / tolerance if tolerance else float(difference > 0)
            worst, which = max((worst, which), (share, what))
            if not difference <= tolerance:
                failed.append(f"{what}: {difference:.2e} > {tolerance:g}")
        note = f"{count} checks on {jax.default_backend()}, worst: {which}"
        note = "; ".join(failed) or note
        emit.row(f"golden {group}, float32", worst, "of tolerance", note, ok=not failed)
    if "forward" in case.options["groups"]:
        _half(golden, emit)


def _half(golden: Any, emit: Any) -> None:
    """Logits and loss in bfloat16 arithmetic, against the float32 reference."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from pgjax.models.loss import make_loss

    model = golden.model.clone(img_dtype=jnp.bfloat16, llm_dtype=jnp.bfloat16)
    f, t = golden.load("forward.npz"), golden.load("train.npz")

    @jax.jit
    def logits(variables, *inputs):
        return model.apply(variables, model.apply(variables, *inputs), method="logits")

    got = np.asarray(logits(golden.variables, f["image"], f["text"], f["mask_ar"]))
    want = f["text_logits"]
    share = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    note = f"≤ {HALF_LOGITS}"
    emit.row("golden logits, bfloat16", share, "relative", note, ok=share <= HALF_LOGITS)

    batch = {k: jnp.asarray(t[k]) for k in ("image", "text", "mask_ar", "mask_loss")}
    rows = batch["text"].shape[0]
    loss = make_loss(model, label_smoothing=0.0, chunk=4)
    weight = jnp.full((rows,), 1 / rows, jnp.float32)
    value, _ = jax.jit(lambda flat: loss(flat, {}, batch, weight, None))(golden.flat)
    want = float(t["ls0.0/training_loss"])
    share = abs(float(value) - want) / want
    emit.row("golden loss, bfloat16", share, "relative", f"≤ {HALF_LOSS}", ok=share <= HALF_LOSS)
