"""What a device's compiler says that a program needs."""

import dataclasses
import re

import jax

from pgjax.devices.program_cost import Cost, program_cost
from pgjax.devices.targets import compiler_of, compiler_options


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one compiled program, in bytes on each device."""

    compiler: str  # cuda, tpu or cpu
    arguments: int
    temporaries: int  # with what is returned without an argument's place, and the code
    cost: Cost | None  # None where the compiler gave up for lack of memory

    @property
    def peak(self) -> int:
        """All of it."""
        return self.arguments + self.temporaries


def figures(
    lowered: jax.stages.Lowered, devices, *, unknown_trips: int = 1, options: dict | None = None
) -> Figures:
    """Compiles a program for its devices, and reads what it needs.

    Args:
      lowered: for these devices, there or not.
      devices: of the mesh.
      unknown_trips: of loops that data end, see `program_cost`.
      options: of the compiler, for devices that are there; others have theirs.
    """
    compiler = compiler_of(devices)
    try:
        compiled = lowered.compile(compiler_options(devices) or options)
    except jax.errors.JaxRuntimeError as e:
        # A TPU's compiler refuses a program that is too large, and says how large.
        if (needed := _needed(str(e))) is None:
            raise
        return Figures(compiler, 0, needed, None)
    return figures_of(compiled, compiler, unknown_trips)


def figures_of(compiled: jax.stages.Compiled, compiler: str, unknown_trips: int = 1) -> Figures:
    """The same, of a program that is compiled already."""
    memory = compiled.memory_analysis()
    extra = memory.output_size_in_bytes - memory.alias_size_in_bytes
    extra += memory.generated_code_size_in_bytes if compiler == "tpu" else 0
    return Figures(
        compiler,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes + extra,
        program_cost(compiled.as_text(), unknown_trips=unknown_trips),
    )


# How libtpu says what a program would have needed: early, by an estimate, or by its allocation.
_TOO_LARGE = (
    re.compile(r"required for [\w ]+ \(([\d.]+)([KMGT]?)\) exceeds available HBM"),
    re.compile(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm"),
)


def _needed(message: str) -> int | None:
    """Bytes, from the message of a compiler that gave up; None where it is about something else."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    found = next(filter(None, (pattern.search(message) for pattern in _TOO_LARGE)), None)
    return found and int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))
