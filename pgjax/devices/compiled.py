"""The memory and work of a program, as the compiler of its device reports them."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np

from pgjax.devices.program_cost import Cost, program_cost
from pgjax.devices.targets import compiler_of, compiler_options
from pgjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Figures:
    """Memory of a compiled program in bytes on each device, and its work."""

    compiler: str  # cuda, tpu or cpu
    arguments: int
    temporaries: int  # includes results that reuse no argument's memory, and the code on a TPU
    cost: Cost | None  # None where the compiler gave up for lack of memory

    @property
    def peak(self) -> int:
        """Memory of arguments and temporaries together, in bytes."""
        return self.arguments + self.temporaries


def figures(
    lowered: jax.stages.Lowered,
    devices: np.ndarray,
    *,
    unknown_trips: int = 1,
    options: dict[str, Any] | None = None,
) -> Figures:
    """Compiles a program for its devices, and reads its figures.

    Args:
      lowered: the program, lowered for these devices.
      devices: those of the mesh, present or from `targets.target_devices`.
      unknown_trips: how often loops run whose end depends on data, see `program_cost`.
      options: compiler options for devices that are present; `targets.compiler_options` gives those
        of others.

    Raises:
      UserError: the compiler does not report what the program needs.
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
    """Reads the figures of a compiled program.

    Args:
      compiled: the program.
      compiler: cuda, tpu or cpu.
      unknown_trips: how often loops run whose end depends on data, see `program_cost`.

    Raises:
      UserError: the compiler does not report what the program needs.
    """
    memory, text = compiled.memory_analysis(), compiled.as_text()
    if memory is None or text is None:
        raise UserError(f"the compiler {compiler!r} does not report a program's memory and text.")
    extra = memory.output_size_in_bytes - memory.alias_size_in_bytes
    extra += memory.generated_code_size_in_bytes if compiler == "tpu" else 0
    return Figures(
        compiler,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes + extra,
        program_cost(text, unknown_trips=unknown_trips),
    )


# Messages of libtpu that give a program's memory: from an early estimate, or from its allocation.
_TOO_LARGE = (
    re.compile(r"required for [\w ]+ \(([\d.]+)([KMGT]?)\) exceeds available HBM"),
    re.compile(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm"),
)


def _needed(message: str) -> int | None:
    """Reads the bytes that a program needs from a compiler's message that it has too few.

    Returns None if the message is about something else.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    found = next(filter(None, (pattern.search(message) for pattern in _TOO_LARGE)), None)
    return found and int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))
