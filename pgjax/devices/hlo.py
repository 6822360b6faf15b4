"""Parses the text of a compiled program: XLA's HLO, as `compiled.as_text()` returns it."""

import dataclasses
import functools
import math
import re
from typing import NamedTuple

from pgjax.errors import UserError

_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_HEAD = re.compile(r"(ENTRY )?%?([^\s(]+) \(.*\{$")
_NAME = re.compile(r"(ROOT )?%?([^\s=]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_PARENTHESIS = re.compile(r'[()]|"(?:[^"\\]|\\.)*"')
_COMMA = re.compile(r'[(){}\[\],]|"(?:[^"\\]|\\.)*"')


class Array(NamedTuple):
    """The type of an array, with the memory space it lies in; 0 is the device's main memory."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def bits(self) -> int:
        """The width of an element in bits, 0 for types that hold no numbers."""
        found = re.match(r"[a-z]+?(\d+)", self.dtype)
        return int(found[1]) if found else 8 if self.dtype == "pred" else 0

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        """The size in bytes, without the padding of a layout."""
        return -(-self.size * self.bits // 8)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `arrays` are the types of its results, a tuple's in order."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    literal: str = ""  # a constant's value, or a parameter's number

    def attribute(self, name: str) -> str | None:
        """Returns the text of `name=…` without the braces or quotes around it, or None."""
        found = re.search(rf'\b{name}=(?:\{{([^{{}}]*)\}}|"([^"]*)"|([^\s,]+))', self.attributes)
        return next((g for g in found.groups() if g is not None), None) if found else None

    def number(self, name: str) -> int | None:
        """Returns the number of `name=1`, or None."""
        text = self.attribute(name)
        return None if text is None else int(text)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Returns the numbers of `name={1,2}`, none where there is no such attribute."""
        return tuple(int(n) for n in (self.attribute(name) or "").split(",") if n)

    def called(self, *names: str) -> tuple[str, ...]:
        """Returns the names of the computations that the attributes of these names call."""
        texts = (self.attribute(name) for name in names)
        return tuple(
            part.strip().removeprefix("%") for text in texts if text for part in text.split(",")
        )

    @property
    def op_name(self) -> str:
        """The place in the traced function that the instruction comes from."""
        return self.attribute("op_name") or ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in order; the computation returns the value of its root."""

    name: str
    instructions: dict[str, Instruction]
    root: str

    @functools.cached_property
    def users(self) -> dict[str, list[tuple[Instruction, int]]]:
        """The instructions that use each value, and the position among their operands."""
        found: dict[str, list[tuple[Instruction, int]]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for place, name in enumerate(instruction.operands):
                found[name].append((instruction, place))
        return found

    @functools.cached_property
    def parameters(self) -> dict[int, str]:
        """The names of the parameters by number."""
        return {
            int(i.literal): i.name for i in self.instructions.values() if i.opcode == "parameter"
        }

    def arrays(self, name: str) -> tuple[Array, ...]:
        """Returns the array types of a value."""
        return self.instructions[name].arrays

    def operands(self, instruction: Instruction) -> list[Array]:
        """Returns the array types of an instruction's operands."""
        return [a for name in instruction.operands for a in self.arrays(name)]

    def synchronous(self, instruction: Instruction) -> Instruction:
        """Returns an instruction `X-start` as the `X` that it begins, and others unchanged.

        `X-start` returns its operands, the results of `X`, and numbers that its `X-done` needs. A
        copy returns its result first, and an all-reduce returns its results only.
        """
        opcode = instruction.opcode.removesuffix("-start")
        if opcode in (instruction.opcode, "async"):
            return instruction
        arrays = instruction.arrays
        if opcode == "copy":
            arrays = arrays[:1]
        elif opcode != "all-reduce":
            arrays = arrays[len(self.operands(instruction)) :]
            arrays = tuple(a for a in arrays if a.dims or a.dtype not in ("u32", "s32"))
        return dataclasses.replace(instruction, opcode=opcode, arrays=arrays)


@dataclasses.dataclass(frozen=True)
class Module:
    """A partitioned program, which each of `devices` devices runs."""

    computations: dict[str, Computation]
    entry: str
    devices: int


def parse(text: str) -> Module:
    """Parses the text of a compiled program.

    Args:
      text: from XLA's compilers for CPU, CUDA or TPU.

    Raises:
      UserError: the text has no entry computation, or a line cannot be parsed.
    """
    computations: dict[str, Computation] = {}
    entry, name = None, None
    lines: dict[str, Instruction] = {}
    root = ""
    for line in text.splitlines():
        if name is None:
            head = _HEAD.match(line) if "->" in line else None
            if head:
                name, lines, root = head[2], {}, ""
                entry = name if head[1] else entry
        elif line.startswith("}"):
            computations[name] = Computation(name, lines, root)
            name = None
        elif line.strip():
            is_root, instruction = _instruction(line.strip())
            lines[instruction.name] = instruction
            root = instruction.name if is_root else root
    if entry not in computations:
        raise UserError("the text of the compiled program has no ENTRY computation.")
    sizes = re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", text[: text.find("\n")])
    return Module(computations, entry, math.prod(map(int, sizes)))


def _instruction(line: str) -> tuple[bool, Instruction]:
    name = _NAME.match(line)
    if not name:
        raise _unknown(line)
    start = name.end()
    end = _closed(line, start) if line[start] == "(" else line.index(" ", start)
    opcode = _OPCODE.match(line, end)
    if not opcode:
        raise _unknown(line)
    close = _closed(line, opcode.end() - 1)
    inside = line[opcode.end() : close - 1]
    literal = opcode[1] in ("constant", "parameter")
    # Some printers write an operand's type before its name, and comments such as `/*index=5*/`.
    listed = [] if literal else _split(re.sub(r"/\*.*?\*/", "", inside))
    names = (part.split()[-1].removeprefix("%") for part in listed)
    return bool(name[1]), Instruction(
        name[2],
        opcode[1],
        _arrays(line[start:end]),
        tuple(names),
        line[close:],
        inside if literal else "",
    )


def _arrays(text: str) -> tuple[Array, ...]:
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        space = _SPACE.search(layout)
        sizes = tuple(int(d.removeprefix("<=")) for d in dims.split(",") if d)
        found.append(Array(dtype, sizes, int(space[1]) if space else 0))
    return tuple(found)


def _closed(line: str, start: int) -> int:
    """Returns the position after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in _PARENTHESIS.finditer(line, start):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    raise _unknown(line)


def _split(text: str) -> list[str]:
    """Splits a text at the commas that are not inside brackets."""
    parts, depth, last = [], 0, 0
    for found in _COMMA.finditer(text):
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(found[0], 0)
        if found[0] == "," and not depth:
            parts.append(text[last : found.start()])
            last = found.end()
    parts.append(text[last:])
    return [part for part in parts if part.strip()]


def _unknown(line: str) -> UserError:
    return UserError(f"the text of the compiled program has a line of unknown form: {line[:80]!r}.")
