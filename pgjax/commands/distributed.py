"""Commands that can run on several processes at once, on one host or many."""

from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.errors import UsageError


class DistributedCommand(Command):
    """A command with the flags that say which process of several this one is."""

    def __init__(self, argv: Sequence[str]):
        """Defines these flags."""
        super().__init__(argv)
        self.joined = False  # whether other processes may wait for this one
        self.common |= {"coordinator", "num_processes", "process_id", "distributed"}
        self._coordinator = self.text(
            "coordinator", None, "host:port of process 0, for a run on several processes."
        )
        self._num_processes = self.integer(
            "num_processes", None, "Number of processes of the run; goes with --coordinator.", 1
        )
        self._process_id = self.integer(
            "process_id", None, "Which of the processes this is, from 0.", 0
        )
        self._distributed = self.boolean(
            "distributed", False,
            "The run has several hosts, and the cluster (TPU, Slurm) says which one this is.",
        )  # fmt: skip

    def join_processes(self) -> None:
        """Connects with the other processes, where the flags say that there are some.

        Raises:
          UsageError: --coordinator without the number and the place of this process.
        """
        address, count, index = (
            self._coordinator.value, self._num_processes.value, self._process_id.value
        )  # fmt: skip
        if address is None and not self._distributed.value:
            return
        if address is not None and (count is None or index is None):
            raise UsageError("--coordinator needs --num_processes and --process_id as well.")
        from pgjax.distributed.start import start

        self.joined = True
        start(address, count, index)  # what is None, the cluster says

    def leave_processes(self, status: int = 0, sentence: str = "") -> None:
        """Parts from the other processes; ends this one where `status` is not 0.

        Args:
          status: exit status.
          sentence: why this process ends, for the others.
        """
        if self.joined:
            from pgjax.distributed.start import leave

            leave(status, sentence)

    def await_explanation(self) -> None:
        """After an error that the loss of another process would explain; ends this one if so."""
        from pgjax.distributed import get_peers

        if self.joined and (peers := get_peers()):
            peers.suspect(wait=15)
