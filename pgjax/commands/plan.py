"""`pgjax plan`, and the same as `pgjax train --plan`."""

import os
from collections.abc import Sequence

from ml_collections import ConfigDict

from pgjax.commands.command import Command
from pgjax.commands.config_flag import ConfigFlag
from pgjax.commands.output import write_json
from pgjax.errors import UsageError

DEVICE_HELP = (
    "The device to plan for, which need not be here: t4, l4, rtx3060, rtx4090, a100-40, h100, "
    "v5e, …; left out: the one of this machine."
)
JSON_HELP = "File to write the plan's figures to, as JSON (bytes, seconds, FLOP)."


class PlanFlags:
    """The flags that say what a training run is planned for."""

    def __init__(self, command: Command):
        """Defines them."""
        self.device = command.text("device", None, DEVICE_HELP)
        self.mesh = command.text(
            "mesh", None, "The mesh of devices to plan for: data=8, or data=4,model=2."
        )
        self.json = command.text("json", None, JSON_HELP)
        self.largest_batch = command.boolean(
            "largest_batch", True,
            "Plan also the largest batch that fits, which takes a few more compilations.",
        )  # fmt: skip
        self.frames = command.integer(
            "frames", 0, "Images per example to plan for; 0: as the data was prepared.", 0
        )
        self.parameters = command.boolean(
            "parameters", False, "List every parameter, and which of them train, and stop."
        )

    def print_plan(self, config: ConfigDict) -> None:
        """Plans a run of this config and prints the table, or that of its parameters.

        Devices that are not here are compiled for by their own compiler; where that is not
        installed, a CPU stands for as many of them as are needed.
        """
        if self.mesh.value:
            config.mesh.update(parse_mesh(self.mesh.value))
        elif self.device.value and config.mesh.data < 0:
            config.mesh.data = 1
        if elsewhere := bool(self.mesh.value or self.device.value):
            count = max(8, config.mesh.data * config.mesh.model)
            flag = f"--xla_force_host_platform_device_count={count}"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
        from pgjax.devices.data_sheets import get_device, this_device
        from pgjax.devices.targets import use_cpu
        from pgjax.training.parameter_tables import parameter_table
        from pgjax.training.training_plan import open_step_builder, plan

        if elsewhere:
            use_cpu()
        device = get_device(self.device.value) if self.device.value else this_device()
        if self.parameters.value:
            builder = open_step_builder(config.to_dict(), device)
            print(parameter_table(builder.sharded.shapes, builder.multipliers, builder.storage))
            return
        frames, largest = self.frames.value, self.largest_batch.value
        found = plan(config.to_dict(), device, frames=frames, largest=largest)
        print(found.text)
        if self.json.value:
            write_json(self.json.value, found.summary)


def parse_mesh(text: str) -> dict[str, int]:
    """The sizes in a text such as `data=4,model=2`.

    Raises:
      UsageError: something else.
    """
    sizes = {"data": 1, "model": 1}
    for item in text.split(","):
        axis, _, size = item.partition("=")
        if axis not in sizes or not size.isdecimal() or int(size) < 1:
            raise UsageError(
                f"--mesh is {text!r}, expected sizes such as data=8 or data=4,model=2."
            )
        sizes[axis] = int(size)
    return sizes


class Plan(Command):
    """Says whether a training run fits into memory, and how long its steps take at least.

    It compiles the training step without weights, data or tokenizer, also for devices and meshes
    that are not here, and says what to change where the run does not fit. `pgjax predict --plan`
    does the same for answers.
    """

    name = "plan"
    example = "pgjax plan --config forkme:mode=attention --device t4"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._config = ConfigFlag(self, "The run to plan.")
        self._plan = PlanFlags(self)

    def run(self) -> None:
        """Prints the plan."""
        if not self._config.given:
            raise UsageError(f"--config is missing; for instance: {self.example}.")
        self._plan.print_plan(self._config.read())
