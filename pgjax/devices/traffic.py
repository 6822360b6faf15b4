"""Memory traffic of the kernels of a compiled program."""

from pgjax.devices.hlo import Array, Computation, Instruction, Module

# These name values, wait for them, or say something about them, and touch no memory.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "domain",
    "partition-id", "replica-id", "opt-barrier", "add-dependency", "get-dimension-size",
}  # fmt: skip
_FREE_CALLS = {"AllocateBuffer", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
# An element of the result is one of the operand.
_ELEMENTWISE = {"bitcast", "reshape", "convert", "copy", "transpose"}
_SLICES = {"dynamic-slice", "slice", "gather"}
_UPDATES = {"dynamic-update-slice", "scatter"}
_LIBRARY = ("__cublas", "__cudnn")  # whose last result is their workspace


class Traffic:
    """Bytes that kernels read and write in the device's main memory."""

    def __init__(self, module: Module):
        """Of a program's kernels."""
        self.module = module

    def of(self, computation: Computation, i: Instruction) -> float:
        """Of one instruction outside of kernels, but not of what it calls."""
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
            return 2 * _bytes(results) + _bytes(operands[1:])
        if opcode == "dynamic-update-slice":
            return 2 * _bytes(operands[1:2])
        if opcode == "scatter":
            return 2 * _bytes(operands[len(results) + 1 :]) + _bytes(
                operands[len(results) : len(results) + 1]
            )
        if opcode.endswith("-start"):  # the operands are among the results, and what waits for them
            half = len(results) // 2 if len(results) > 1 else 0
            results = results[:1] if opcode == "copy-start" else results[half:]
            results = [a for a in results if a.dims]
        if opcode == "custom-call" and len(results) > 1:
            library = (i.attribute("custom_call_target") or "").startswith(_LIBRARY)
            results = results[:-1] if library else results
        return _bytes(operands) + _bytes(results)

    def _read(self, inner: Computation, place: int, array: Array) -> float:
        if array.space or place not in inner.parameters:
            return 0
        elements = self._elements_read(inner, inner.parameters[place])
        return min(elements, array.size) * array.bits / 8

    def _elements_read(self, inner: Computation, name: str) -> float:
        """Elements of a value that a kernel reads: all, or the slices that it takes."""
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
        """Whether a value is what the kernel writes, so that an update of it is done in place."""
        if name == inner.root:
            return True
        return any(
            (user.opcode in _ELEMENTWISE or user.opcode == "tuple")
            and self._returned(inner, user.name)
            for user, _ in inner.users[name]
        )

    def _written(self, inner: Computation, results: tuple[Array, ...]) -> float:
        root = inner.instructions[inner.root]
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
        if i.opcode == "parameter":  # handed through
            return 0
        if i.opcode == "fusion" and len(i.arrays) == 1:
            nested = self.module.computations[i.called("calls")[0]]
            return self._elements_written(nested, nested.root)
        return sum(a.size for a in i.arrays)


def _bytes(arrays) -> int:
    return sum(a.nbytes for a in arrays if not a.space)
