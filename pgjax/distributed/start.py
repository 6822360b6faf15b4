"""Brings the processes of a run together, saying for whom it waits, and lets them part."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import jax
from jax._src.clusters import ClusterEnv

from pgjax.distributed.peers import get_peers, join
from pgjax.distributed.relay import Relay
from pgjax.errors import UserError, note

SAY_SECONDS = 15
START_SECONDS = 300  # until which all processes must be there
PART_SECONDS = 60  # that a process at its end waits for the others to end


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = START_SECONDS,
) -> None:
    """Joins the processes of a run; to be called before anything else of jax.

    What is not given is asked of the cluster (TPU, Slurm, Open MPI, Kubernetes).

    Args:
      coordinator: `HOST:PORT` of process 0.
      num_processes: how many the run has.
      process_id: which of them this one is, from 0.
      timeout: seconds until all of them must be there; after them this process ends with one
        sentence.

    Raises:
      UserError: the cluster does not tell, or the numbers do not fit.
    """
    local_devices = None
    if None in (coordinator, num_processes, process_id):
        coordinator, num_processes, process_id, local_devices = _ask_cluster(
            coordinator, num_processes, process_id, int(timeout)
        )
    _check(coordinator, num_processes, process_id)
    relay = Relay(coordinator) if process_id else None
    # The relay keeps a client from aborting its process; SIGTERM is not jax's to take either.
    jax.config.update("jax_enable_preemption_service", False)
    with _waiting(coordinator, num_processes, process_id, relay, timeout):
        try:
            jax.distributed.initialize(
                f"127.0.0.1:{relay.port}" if relay else coordinator,
                num_processes,
                process_id,
                local_device_ids=local_devices,
                initialization_timeout=int(timeout) + 60,
                shutdown_timeout_seconds=PART_SECONDS,
                coordinator_bind_address=None if process_id else f"[::]:{_port(coordinator)}",
            )
        except Exception as e:
            raise UserError(
                f"Process {process_id} of {num_processes} could not join the others at "
                f"{coordinator} ({str(e).splitlines()[0][:300]})."
            ) from None
    join(coordinator, relay)


def leave(status: int, sentence: str) -> None:
    """Parts from the other processes; returns in a run of a single one, and with status 0.

    jax's own exit waits for the other processes, which may wait for this one.

    Args:
      status: exit status; 0 where all processes have come to the end of the run.
      sentence: what the others are told where it is not 0.
    """
    if (found := get_peers()) is None:
        return
    if status == 0:
        found.close()
        with contextlib.suppress(Exception):  # somebody was lost after the end of the run
            jax.distributed.shutdown()
        return
    found.leave(sentence)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _ask_cluster(coordinator, num_processes, process_id, timeout):
    try:
        return ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, num_processes, process_id, None, None, timeout
        )
    except Exception as e:
        raise UserError(
            f"No cluster tells who is who here ({str(e).splitlines()[0][:200]}); give "
            "--coordinator, --num_processes and --process_id."
        ) from None


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator is None or num_processes is None or process_id is None:
        raise UserError(
            f"Of --coordinator {coordinator}, --num_processes {num_processes} and --process_id "
            f"{process_id} one is missing, and no cluster tells it."
        )
    if not 0 <= process_id < num_processes:
        raise UserError(f"--process_id is {process_id}, expected 0 to {num_processes - 1}.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator is {coordinator!r}, expected HOST:PORT.")


def _port(address: str) -> str:
    return address.rpartition(":")[2]


@contextlib.contextmanager
def _waiting(
    coordinator: str, count: int, process: int, relay: Relay | None, timeout: float
) -> Iterator[None]:
    """Says every quarter of a minute who is missing, and ends the process at the end of its wait.

    jax would abort it, with a native stack.
    """
    together = threading.Event()
    begun = time.monotonic()

    def missing() -> str:
        if relay is not None and not relay.connected.is_set():
            return f"process 0 of {count} at {coordinator}"
        others = [k for k in range(count) if k != process]
        if len(others) == 1:
            return f"process {others[0]} of {count} at {coordinator}"
        return f"all {count} processes to come to {coordinator}"

    def watch() -> None:
        while not together.wait(min(SAY_SECONDS, max(0.1, begun + timeout - time.monotonic()))):
            seconds = time.monotonic() - begun
            if seconds >= timeout:
                print(
                    f"error: Waited {seconds:.0f} s for {missing()}; check that all processes "
                    "were started, with the same --coordinator and --num_processes, and that "
                    "nothing keeps them from that address.",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
            note(f"waiting for {missing()} ({seconds:.0f} s of {timeout:.0f}).")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        together.set()
