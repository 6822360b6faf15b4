"""FLOPs of the instructions that multiply: dots, convolutions, and calls of libraries."""

import functools
import math
import re

from pgjax.devices.hlo import Array, Computation, Instruction


def product_flops(computation: Computation, i: Instruction) -> tuple[int, float]:
    """The width of an instruction's operands in bits, and its FLOPs; (0, 0) where it is no product.

    A multiplication and an addition count as two, and only products of matrices and convolutions
    count: all else is bound by memory.
    """
    if i.opcode not in ("dot", "convolution", "custom-call"):
        return 0, 0
    operands = [a for name in i.operands for a in computation.arrays(name)]
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
    """Of cuBLAS, cuDNN, or a kernel of Triton or Pallas."""
    target = i.attribute("custom_call_target") or ""
    if found := re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', i.attributes):
        contracted = tuple(int(n) for n in re.findall(r"\d+", found[1]))
        return _dot(operands[0], i.arrays[0], contracted)
    if target.startswith("__cudnn$conv") and len(operands) >= 2:
        first, second, out = operands[0], operands[1], i.arrays[0]
        if "BackwardInput" in target:  # the convolution that it reverses has these
            return _convolution(i, out, second, first)
        if "BackwardFilter" in target:
            return _convolution(i, first, out, second)
        return _convolution(i, first, second, out)
    if found := re.search(r'"?cost_estimate"?:\s*\{[^}]*?"?flops"?:\s*"?(\d+)', i.attributes):
        return float(found[1])
    return _attention(i, target, operands)


def _attention(i: Instruction, target: str, operands: list[Array]) -> float:
    """Of fused attention, known by its operands: queries, keys and values of four axes each.

    Forward there are two products of queries × keys × head size. Backward a kernel makes
    the weights again (one), their gradient (one), and the gradients that it returns (one each);
    cuDNN keeps what it needs and does all five.
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
    """Only window positions that fall on elements count, not those on padding or in between.

    Compilers write products with batch axes as convolutions whose windows mostly hit nothing.
    """
    labels = re.match(r"(\w+)_(\w+)->(\w+)", i.attribute("dim_labels") or "")
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
    """Of `2x1` for an axis; of `0_1x3_0`, padding before and after, what is before."""
    return int(text.split("x")[axis].split("_")[0]) if text else default


@functools.cache
def _hits(size: int, kernel: int, out: int, stride: int, spread: int, dilate: int, pad: int) -> int:
    """Pairs of an output and a kernel position that meet an element, along one axis."""
    total, last = 0, (size - 1) * spread
    for k in range(kernel):
        # Positions o·stride + first, of which those in 0..last that `spread` divides count.
        first = k * dilate - pad
        low = max(0, -(first // stride))
        high = min(out - 1, (last - first) // stride)
        if spread == 1:
            total += max(0, high - low + 1)
        else:
            total += sum(not (o * stride + first) % spread for o in range(low, high + 1))
    return total
