"""Memory traffic of a compiled program's kernels."""

from collections.abc import Iterable

from pgjax.devices.hlo import Array, Computation, Instruction, Module

# These instructions name values, wait for them or annotate them, and access no memory.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "domain",
    "partition-id", "replica-id", "opt-barrier", "add-dependency", "get-dimension-size",
}  # fmt: skip
_FREE_CALLS = {"AllocateBuffer", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
# Each element of the result of these is an element of the operand.
_ELEMENTWISE = {"bitcast", "reshape", "convert", "copy", "transpose"}
_SLICES = {"dynamic-slice", "slice", "gather"}
_UPDATES = {"dynamic-update-slice", "scatter"}
_LIBRARY = ("__cublas", "__cudnn")


class Traffic:
    """Counts the bytes that a program's kernels read and write in the device's main memory."""

    def __init__(self, module: Module):
        self.module = module

    def of(self, computation: Computation, i: Instruction) -> float:
        """Returns the bytes of one instruction outside kernels, without computations it calls.

        A fusion is one kernel, so its bytes are those of the whole fused computation.
        """
        opcode = i.opcode
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            return 0
        if opcode == "custom-call" and i.attribute("custom_call_target") in _FREE_CALLS:
            return 0
        if opcode == "fusion":
            (called,) = i.called("calls")
            inner = self.module.computations[called]
            read = sum(
                self._read(inner, place, array)
                for place, name in enumerate(i.operands)
                for array in computation.arrays(name)[:1]
            )
            return read + self._written(inner, i.arrays)
        operands = [a for name in dict.fromkeys(i.operands) for a in computation.arrays(name)]
        results = list(i.arrays)
        if opcode in _SLICES:
            return _part(operands[0], results[0]) + _bytes(results) + _bytes(operands[1:])
        if opcode == "dynamic-update-slice":
            return _bytes(operands[1:2]) + _part(results[0], operands[1])
        if opcode == "scatter":
            indices, updates = operands[len(results)], operands[len(results) + 1 :]
            return 2 * _bytes(updates) + _bytes([indices])
        if _has_workspace(i):
            results = results[:-1]
        return _bytes(operands) + _bytes(results)

    def _read(self, inner: Computation, place: int, array: Array) -> float:
        if array.space or place not in inner.parameters:
            return 0
        elements = self._elements_read(inner, inner.parameters[place])
        return min(elements, array.size) * array.bits / 8

    def _elements_read(self, inner: Computation, name: str) -> float:
        """Returns how many elements of a value a kernel reads: all, or the slices that it takes."""
        whole, total = sum(a.size for a in inner.arrays(name)), 0.0
        for user, place in inner.users[name]:
            if user.opcode in _ELEMENTWISE:
                total += self._elements_read(inner, user.name)
            elif user.opcode in _SLICES and place == 0:
                total += sum(a.size for a in user.arrays)
            elif user.opcode in _UPDATES and place == 0:
                total += 0 if self._returned(inner, user.name) else whole
            elif user.opcode == "tuple":
                total += 0
            elif user.opcode == "fusion":
                (called,) = user.called("calls")
                nested = self.module.computations[called]
                total += self._elements_read(nested, nested.parameters[place])
            else:
                total += whole
            if total >= whole:
                return whole
        return total

    def _returned(self, inner: Computation, name: str) -> bool:
        """Says whether a kernel returns a value, so that it updates the value in place."""
        if name == inner.root:
            return True
        return any(
            (user.opcode in _ELEMENTWISE or user.opcode == "tuple")
            and self._returned(inner, user.name)
            for user, _ in inner.users[name]
        )

    def _written(self, inner: Computation, results: tuple[Array, ...]) -> float:
        root = inner.instructions[inner.root]
        if _has_workspace(root):
            return _bytes(results[:-1])
        names = root.operands if root.opcode == "tuple" else (root.name,)
        if len(names) != len(results):
            return _bytes(results)
        return sum(
            min(self._elements_written(inner, name), array.size) * array.bits / 8
            for name, array in zip(names, results, strict=True)
            if not array.space
        )

    def _elements_written(self, inner: Computation, name: str) -> float:
        i = inner.instructions[name]
        if i.opcode in _ELEMENTWISE:
            return self._elements_written(inner, i.operands[0])
        if i.opcode == "dynamic-update-slice":
            return sum(a.size for a in inner.arrays(i.operands[1]))
        if i.opcode == "scatter":
            return sum(a.size for a in inner.arrays(i.operands[-1]))
        if i.opcode == "parameter":  # returned unchanged
            return 0
        if i.opcode == "get-tuple-element":
            made = inner.instructions[i.operands[0]]
            if _has_workspace(made) and i.number("index") == len(made.arrays) - 1:
                return 0
        if i.opcode == "fusion" and len(i.arrays) == 1:
            nested = self.module.computations[i.called("calls")[0]]
            return self._elements_written(nested, nested.root)
        return sum(a.size for a in i.arrays)


def _has_workspace(i: Instruction) -> bool:
    """Says whether the last result of a library call is its scratch memory."""
    target = i.attribute("custom_call_target") or ""
    return i.opcode == "custom-call" and len(i.arrays) > 1 and target.startswith(_LIBRARY)


def _part(whole: Array, part: Array) -> int:
    """Returns the bytes of a part of an array, or 0 if the whole lies outside main memory."""
    return 0 if whole.space else part.nbytes


def _bytes(arrays: Iterable[Array]) -> int:
    return sum(a.nbytes for a in arrays if not a.space)
