"""How often a compiled loop runs."""

import math
import re

from pgjax.devices.hlo import Computation, Instruction, Module

_SAME = ("copy", "bitcast", "convert", "copy-done", "copy-start")


def trip_count(module: Module, outer: Computation, loop: Instruction) -> int | None:
    """The iterations of a `while`; None where they depend on data.

    The compilers for CPU and CUDA write them beside the loop. That of the TPU does not: there
    they follow from where the counter begins, what is added to it, and what it is compared with.

    Args:
      module: of the program.
      outer: the computation that holds the loop.
      loop: its instruction.
    """
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(found[1])
    condition = module.computations[loop.called("condition")[0]]
    body = module.computations[loop.called("body")[0]]
    test = condition.instructions[condition.root]
    if test.opcode != "compare" or test.attribute("direction") not in ("LT", "NE"):
        return None
    counter = _carried(condition, test.operands[0])
    if counter is None:
        return None
    end = _constant(condition, test.operands[1])
    if end is None and (bound := _carried(condition, test.operands[1])) is not None:
        end = _initial(outer, loop, bound)
    begin, step = _initial(outer, loop, counter), _step(body, counter)
    if end is None or begin is None or not step:
        return None
    return max(0, math.ceil((end - begin) / step))


def _source(computation: Computation, name: str) -> Instruction:
    """Where a value comes from, past copies of it."""
    found = computation.instructions[name]
    while found.opcode in _SAME and found.operands:
        found = computation.instructions[found.operands[0]]
    return found


def _carried(computation: Computation, name: str) -> int | None:
    """Which of the loop's values a value is."""
    found = _source(computation, name)
    return int(found.attribute("index")) if found.opcode == "get-tuple-element" else None


def _constant(computation: Computation, name: str) -> int | None:
    found = _source(computation, name)
    whole = found.opcode == "constant" and re.fullmatch(r"-?\d+", found.literal)
    return int(found.literal) if whole else None


def _initial(outer: Computation, loop: Instruction, place: int) -> int | None:
    values = outer.instructions[loop.operands[0]]
    return _constant(outer, values.operands[place]) if values.opcode == "tuple" else None


def _step(body: Computation, place: int) -> int | None:
    """What an iteration adds to the counter."""
    values = body.instructions[body.root]
    added = _source(body, values.operands[place]) if values.opcode == "tuple" else None
    if added is None or added.opcode != "add":
        return None
    steps = [_constant(body, name) for name in added.operands]
    return next((step for step in steps if step is not None), None)
