"""The least time that a program takes on a device, by the device's data sheet."""

import dataclasses

from pgjax.devices.data_sheets import Rates
from pgjax.devices.program_cost import Cost


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The least seconds that each part of a device works; the three may overlap.

    Memory traffic is what kernels read and write, each byte once; what a cache already holds takes
    less.
    """

    compute: float
    memory: float
    network: float | None  # None where the rate of the connections is not known

    @property
    def seconds(self) -> float:
        """The least time of the program, which is the longest of the three."""
        return max(self.compute, self.memory, self.network or 0)

    @property
    def by(self) -> str:
        """The part that takes the longest: compute, memory or network."""
        return max(
            ("compute", self.compute), ("memory", self.memory), ("network", self.network or 0),
            key=lambda part: part[1],
        )[0]  # fmt: skip


def bounds(cost: Cost, rates: Rates) -> Bounds:
    """Computes the least time that a program of this cost takes.

    Products of 8-bit numbers or narrower ones count as twice as fast as those of 16 bits.
    """
    compute = 0.0
    for bits, flops in cost.flops_of_bits.items():
        rate = 2 * rates.flops if bits <= 8 else rates.flops if bits == 16 else rates.flops32
        compute += flops / rate
    return Bounds(compute, cost.memory_bytes / rates.memory, _network(cost, rates))


def _network(cost: Cost, rates: Rates) -> float | None:
    seconds = 0.0
    for c in cost.collectives:
        if c.sent:
            rate = rates.between(c.group)
            if rate is None:
                return None
            seconds += c.sent * c.times / rate
    return seconds
