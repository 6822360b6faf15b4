"""The work of a compiled program: products, memory traffic, and data that devices exchange.

It is read from the partitioned text, so all figures are per device, and describe the program that
the compiler made rather than the one that was meant.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable

from pgjax.devices.hlo import Array, Computation, Instruction, Module, parse
from pgjax.devices.loops import trip_count
from pgjax.devices.products import product_flops
from pgjax.devices.traffic import Traffic

# Bytes that a device sends, as a multiple of its operand's, for n devices in a ring (Thakur et al.,
# "Optimization of Collective Communication Operations in MPICH", 2005). An all-gather's result is
# n times its operand, of which (n-1)/n come from other devices.
_SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: n - 1,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
    "collective-broadcast": lambda n: 1,
}
KINDS = tuple(_SENT)


@dataclasses.dataclass(frozen=True)
class Collective:
    """An instruction by which devices exchange data."""

    kind: str
    results: tuple[Array, ...]  # on each device
    sent: float  # bytes that a device sends each time
    group: int  # number of devices that exchange data with each other
    times: float  # how often it runs
    op_name: str  # the place in the traced function that it comes from
    channel: str  # the compiler's number for the exchange, or ""

    @property
    def dtype(self) -> str:
        """The element type of the first result."""
        return self.results[0].dtype if self.results else ""

    def __str__(self) -> str:
        shapes = ", ".join(map(str, self.results))
        return f"{self.times:g} × {self.kind} {shapes} over {self.group}: {self.op_name}"


@dataclasses.dataclass(frozen=True)
class Cost:
    """The work of one run of a program, on each device."""

    flops_of_bits: dict[int, float]  # FLOPs of products by the width of their operands in bits
    memory_bytes: float  # bytes that kernels read and write
    collectives: tuple[Collective, ...]

    @property
    def flops(self) -> float:
        """FLOPs of all products; a multiplication and an addition count as two."""
        return sum(self.flops_of_bits.values())

    @property
    def collective_bytes(self) -> dict[str, float]:
        """Bytes that a device sends, by kind of collective."""
        return self._by_kind(lambda c: c.sent * c.times)

    @property
    def collective_counts(self) -> dict[str, float]:
        """How often each kind of collective runs."""
        return self._by_kind(lambda c: c.times)

    def _by_kind(self, amount: Callable[[Collective], float]) -> dict[str, float]:
        found: dict[str, float] = {}
        for collective in self.collectives:
            found[collective.kind] = found.get(collective.kind, 0) + amount(collective)
        return found


def program_cost(text: str, *, unknown_trips: int = 1) -> Cost:
    """Counts the work of a compiled program, with the body of a loop as often as it runs.

    Of the branches of a conditional the costliest counts. Memory traffic is what kernels read and
    write in the device's main memory: a slice of a stacked array counts as the slice, an update in
    place as the update, and data in the fast memory of a TPU core not at all.

    Args:
      text: `compiled.as_text()` from the compiler for CPU, CUDA or TPU.
      unknown_trips: how often a loop runs whose trip count the compiler does not know.

    Raises:
      UserError: the text cannot be parsed.
    """
    found = _Reader(parse(text), unknown_trips).entry()
    merged: dict[Collective, float] = collections.defaultdict(float)
    for collective, times in found.collectives:
        merged[collective] += times
    each = tuple(dataclasses.replace(c, times=times) for c, times in merged.items())
    return Cost(dict(found.flops), found.memory, each)


@dataclasses.dataclass
class _Sum:
    flops: dict[int, float] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(float)
    )
    memory: float = 0.0
    collectives: list[tuple[Collective, float]] = dataclasses.field(default_factory=list)

    def add(self, other: "_Sum", times: float = 1) -> None:
        for bits, flops in other.flops.items():
            self.flops[bits] += flops * times
        self.memory += other.memory * times
        self.collectives += [(c, n * times) for c, n in other.collectives]

    @property
    def rank(self) -> tuple[float, float]:
        return sum(self.flops.values()), self.memory


class _Reader:
    def __init__(self, module: Module, unknown_trips: int):
        self.module, self.unknown_trips = module, unknown_trips
        self.traffic = Traffic(module)
        self.sum_of = functools.cache(self._sum_of)

    def entry(self) -> _Sum:
        return self.sum_of(self.module.entry, True)

    def _sum_of(self, name: str, kernels: bool) -> _Sum:
        """Sums up a computation; what is inside a kernel does not access memory."""
        computation, total = self.module.computations[name], _Sum()
        channels: set[str] = set()
        for instruction in computation.instructions.values():
            found = _Sum()
            self._add(found, computation, instruction, kernels)
            if instruction.opcode in ("fusion", "fusion-start"):
                # A TPU spreads one exchange over several kernels that also compute, and all of
                # them carry its channel.
                found.collectives = [c for c in found.collectives if c[0].channel not in channels]
                channels |= {c.channel for c, _ in found.collectives if c.channel}
            total.add(found)
        return total

    def _add(self, total: _Sum, computation: Computation, i: Instruction, kernels: bool) -> None:
        i = computation.synchronous(i)
        if i.opcode == "while":
            (body,) = i.called("body")
            trips = trip_count(self.module, computation, i)
            total.add(self.sum_of(body, kernels), self.unknown_trips if trips is None else trips)
            return
        if i.opcode == "conditional":
            branches = i.called("branch_computations", "true_computation", "false_computation")
            total.add(max((self.sum_of(b, kernels) for b in branches), key=lambda s: s.rank))
            return
        if i.opcode == "call" or i.opcode == "async-start":
            for called in i.called("to_apply", "calls"):
                total.add(self.sum_of(called, kernels))
            return
        if i.opcode == "fusion":
            (called,) = i.called("calls")
            if collective := self._fused(i, called):
                total.collectives.append((collective, 1))
            else:
                total.add(self.sum_of(called, False))
        elif i.opcode in _SENT:
            total.collectives.append((self._collective(computation, i), 1))
        else:
            bits, flops = product_flops(computation, i)
            if flops:
                total.flops[bits] += flops
        if kernels:
            total.memory += self.traffic.of(computation, i)

    def _fused(self, i: Instruction, called: str) -> Collective | None:
        """Reads a TPU's reduce-scatter, which is an all-reduce fused with a slice of its result."""
        if not called.startswith("all-reduce-scatter"):
            return None
        inner = self.module.computations[called]
        for instruction in inner.instructions.values():
            if instruction.opcode == "all-reduce":
                whole = self._collective(inner, instruction)
                sent = whole.sent / 2  # the half of an all-reduce that scatters
                return dataclasses.replace(
                    whole, kind="reduce-scatter", sent=sent, results=i.arrays
                )
        return None

    def _collective(self, computation: Computation, i: Instruction) -> Collective:
        group = self._group(i)
        size = sum(a.nbytes for a in computation.operands(i))
        sent = size * _SENT[i.opcode](group) if group > 1 else 0.0
        channel = i.attribute("channel_id") or ""
        return Collective(i.opcode, i.arrays, sent, group, 1, i.op_name, channel)

    def _group(self, i: Instruction) -> int:
        """Returns the number of devices of a group, in any form in which XLA writes groups."""
        if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", i.attributes):
            return 2 if pairs[1] else 1
        text = i.attributes.partition("replica_groups=")[2]
        if found := re.match(r"\{\{([\d,]*)\}", text):  # {{0,1},{2,3}}
            return found[1].count(",") + 1
        if found := re.match(r"\[([\d,]+)\]<=", text):  # [2,4]<=[8]
            return int(found[1].split(",")[-1])
        if found := re.match(r"@?\w*\[([^\]]*)\]\s*\{([^}]*)\}", text):  # mesh['a'=2,'b'=4] {'b'}
            sizes = dict(re.findall(r"['\"]?(\w+)['\"]?=(\d+)", found[1]))
            parts = re.findall(r"['\"]?(\w+)['\"]?(?::\(\d+\)(\d+))?", found[2])
            return math.prod(int(part or sizes[axis]) for axis, part in parts)
        return self.module.devices  # {}
