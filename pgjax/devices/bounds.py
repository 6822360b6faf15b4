"""The time that a program takes at least on a device, by the device's data sheet."""

import dataclasses

from pgjax.devices.data_sheets import Rates
from pgjax.devices.program_cost import Cost


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds that each part of a device works at least; the three may go on at once.

    Memory traffic is what kernels read and write, once each; where some of that is found in a
    cache, it takes less.
    """

    compute: float
    memory: float
    network: float | None  # None where the rate of what joins the devices is not known

    @property
    def seconds(self) -> float:
        """Of the program: the longest of the three."""
        return max(self.compute, self.memory, self.network or 0)

    @property
    def by(self) -> str:
        """What takes the longest."""
        return max(
            ("compute", self.compute), ("memory", self.memory), ("network", self.network or 0),
            key=lambda part: part[1],
        )[0]  # fmt: skip


def bounds(cost: Cost, rates: Rates) -> Bounds:
    """What a program of this cost takes at least.

    Products of 8-bit numbers or fewer count as twice as fast as those of 16 bits.
    """
    compute = 0.0
    for bits, flops in cost.flops_of_bits.items():
        rate = 2 * rates.flops if bits <= 8 else rates.flops if bits == 16 else rates.flops32
        compute += flops / rate
    network: float | None = 0.0
    for c in cost.collectives:
        rate = rates.between(c.group)
        if c.sent and rate is None:
            network = None
            break
        network += c.sent * c.times / rate if c.sent else 0
    return Bounds(compute, cost.memory_bytes / rates.memory, network)
