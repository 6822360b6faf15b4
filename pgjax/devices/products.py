"""FLOPs of the instructions that multiply: dots, convolutions, and library calls."""

import functools
import math
import re

from pgjax.devices.hlo import Array, Computation, Instruction
from pgjax.errors import UserError


def product_flops(computation: Computation, i: Instruction) -> tuple[int, float]:
    """Returns the width of an instruction's operands in bits, and its FLOPs.

    A multiplication and an addition count as two FLOPs. Only matrix products and convolutions
    count, since all else is bound by memory; other instructions give (0, 0).

    Raises:
      UserError: a convolution does not label its dimensions.
    """
    if i.opcode not in ("dot", "convolution", "custom-call"):
        return 0, 0
    operands = computation.operands(i)
    if i.opcode == "dot":
        flops = _dot(operands[0], i.arrays[0], i.numbers("lhs_contracting_dims"))
    elif i.opcode == "convolution":
        flops = _convolution(i, operands[0], operands[1], i.arrays[0])
    else:
        flops = _call(i, operands)
    return (max(a.bits for a in operands[:2]) if flops else 0), flops


def _dot(lhs: Array, out: Array, contracted: tuple[int, ...]) -> float:
    return 2 * out.size * math.prod(lhs.dims[n] for n in contracted)


def _call(i: Instruction, operands: list[Array]) -> float:
    """Returns the FLOPs of a call of cuBLAS or cuDNN, or of a kernel of Triton or Pallas."""
    target = i.attribute("custom_call_target") or ""
    if found := re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', i.attributes):
        contracted = tuple(int(n) for n in re.findall(r"\d+", found[1]))
        return _dot(operands[0], i.arrays[0], contracted)
    if target.startswith("__cudnn$conv") and len(operands) >= 2:
        first, second, out = operands[0], operands[1], i.arrays[0]
        if "BackwardInput" in target:  # counted as the forward convolution that it reverses
            return _convolution(i, out, second, first)
        if "BackwardFilter" in target:
            return _convolution(i, first, out, second)
        return _convolution(i, first, second, out)
    if found := re.search(r'"?cost_estimate"?:\s*\{[^}]*?"?flops"?:\s*"?(\d+)', i.attributes):
        return float(found[1])
    return _attention(i, target, operands)


def _attention(i: Instruction, target: str, operands: list[Array]) -> float:
    """Returns the FLOPs of fused attention; its operands tell it, three of four axes each.

    The forward pass has two products of queries × keys × head size. A backward kernel recomputes
    the weights (one product), and computes their gradient (one) and the gradients that it returns
    (one each); cuDNN computes all three gradients in one kernel, five products in all.
    """
    wide = [a for a in operands if len(a.dims) == 4 and a.dtype in ("f32", "bf16", "f16")]
    if len(wide) < 3 or len({(a.dims[0], a.dims[3]) for a in wide[:3]}) > 1:
        return 0
    queries, keys = wide[0], wide[1]
    length = max(keys.dims[1:3]) if keys.dims[1:3] != queries.dims[1:3] else None
    # Heads and positions may come in either order; there are more positions than heads.
    length = length or max(queries.dims[1:3])
    gradients = [a for a in i.arrays if len(a.dims) == 4]
    backward = "Backward" in target or (len(wide) > 3 and "transpose(" in i.op_name)
    products = (2 + len(gradients) if len(gradients) < 3 else 5) if backward else 2
    return 2 * products * queries.size * length


def _convolution(i: Instruction, lhs: Array, rhs: Array, out: Array) -> float:
    """Returns the FLOPs of a convolution, without window positions on padding or between elements.

    Compilers write products with batch axes as convolutions whose windows mostly lie on padding.
    """
    labels = re.match(r"(\w+)_(\w+)->(\w+)", i.attribute("dim_labels") or "")
    if labels is None:
        raise UserError(f"the compiled program has a convolution {i.name} without dim_labels.")
    batch, features = labels[1].index("b"), labels[3].index("f")
    window = dict(re.findall(r"(\w+)=(\S+)", i.attribute("window") or ""))
    valid = 1
    for axis in range(len(labels[1]) - 2):
        valid *= _hits(
            lhs.dims[labels[1].index(str(axis))],
            rhs.dims[labels[2].index(str(axis))],
            out.dims[labels[3].index(str(axis))],
            *(_number(window.get(key), axis, 1) for key in ("stride", "lhs_dilate", "rhs_dilate")),
            _number(window.get("pad"), axis, 0),
        )
    groups = int(i.attribute("batch_group_count") or 1)
    inputs = rhs.dims[labels[2].index("i")]
    return 2 * lhs.dims[batch] / groups * inputs * out.dims[features] * valid


def _number(text: str | None, axis: int, default: int) -> int:
    """Returns an axis's number in `2x1`, or its padding in front in `0_1x3_0` (front and back)."""
    return int(text.split("x")[axis].split("_")[0]) if text else default


@functools.cache
def _hits(size: int, kernel: int, out: int, stride: int, spread: int, dilate: int, pad: int) -> int:
    """Counts the pairs of an output and a kernel position that meet an element along one axis."""
    total, last = 0, (size - 1) * spread
    for k in range(kernel):
        # Of the positions o·stride + first, those in 0..last that `spread` divides count.
        first = k * dilate - pad
        low = max(0, -(first // stride))
        high = min(out - 1, (last - first) // stride)
        if spread == 1:
            total += max(0, high - low + 1)
        else:
            total += sum(not (o * stride + first) % spread for o in range(low, high + 1))
    return total
