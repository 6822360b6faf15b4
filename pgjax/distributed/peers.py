"""What the processes of a run know of one another, through jax's key-value store.

Every process writes a beat (a number that grows, and what it is doing) once in a second. Process 0
reads all of them and writes a verdict where one is lost or has ended; the others read that, and
their relay tells them of the loss of process 0. A process that is told so ends at once with one
sentence, also while its main thread waits for a device that will never answer.

    pgjax/beat/K        of process K: {"n": 12, "doing": "step 7 of 100", "ended": null}
    pgjax/verdict/0     why everybody ends
    pgjax/wish/N/0      what somebody wishes: the N-th of the run
    pgjax/tick/N/K      where process K was when it saw that wish
    pgjax/NAME/K        what process K puts into `exchange(NAME, …)`
"""

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jax._src import distributed

from pgjax.distributed.relay import Relay
from pgjax.errors import TEMPORARY, UserError

PERIOD = 1.0  # seconds between beats
LOST_AFTER = 40.0  # seconds without a new beat
SUSPECTED_AFTER = 10.0  # the same, where something has failed already
EXCHANGE_SECONDS = 600  # until which the slowest process must have come to an exchange

_RESUME = "start all of them again with the same command to go on"


@dataclasses.dataclass
class _Beat:
    """The newest beat of a process, and when it was seen for the first time."""

    number: int = -1
    since: float = dataclasses.field(default_factory=time.monotonic)
    doing: str = "starting"
    ended: str | None = None


class Peers:
    """What one process tells the others of its run, and hears of them."""

    def __init__(self, client: Any, process: int, count: int, address: str, relay: Relay | None):
        """Begins to beat and to watch.

        Args:
          client: jax's client of the coordination service.
          process: index of this one.
          count: of processes.
          address: of process 0, for messages.
          relay: to process 0; None in process 0 itself.
        """
        self.process, self.count, self.address = process, count, address
        self._client, self._relay = client, relay
        self._doing, self._number, self._ended = "starting", 0, None
        self._beats = {k: _Beat() for k in range(count) if k != process}
        self._heard = time.monotonic()
        self._suspect = False
        self._closing, self._ending = threading.Event(), threading.Lock()
        self._changed = threading.Condition()
        self._round, self._ticks = 0, 0
        self._wishes: list[str] = []
        self._deciding = False
        self._decided: tuple[int, str] | None = None
        for function in (self._talk, self._watch):
            threading.Thread(target=function, daemon=True).start()

    # ---- what the main thread calls --------------------------------------------------------------

    def doing(self, what: str) -> None:
        """Says what this process does now, such as `step 7 of 100`; others tell it if it dies."""
        self._doing = what

    def wish(self, what: str) -> None:
        """Wishes that all processes do something at one moment; `tick` tells when."""
        if what not in self._wishes:
            self._wishes.append(what)

    def tick(self) -> str:
        """What is due at this moment, by a wish of any process; "" for nothing.

        To be called by all processes equally often, between two pieces of work that they do
        together. While processes find out which of them has come furthest, it waits.
        """
        with self._changed:
            self._ticks += 1
            if not self._changed.wait_for(lambda: not self._deciding, EXCHANGE_SECONDS):
                raise UserError("The processes of this run could not agree on a moment to save.")
            if self._decided is None or self._ticks < self._decided[0]:
                return ""
            what, self._decided = self._decided[1], None
            return what

    def exchange(self, name: str, value: Any) -> list[Any]:
        """Every process's JSON value, in the order of processes; each name serves once.

        Raises:
          UserError: some process did not come within `EXCHANGE_SECONDS`.
        """
        self._client.key_value_set(f"pgjax/{name}/{self.process}", json.dumps(value))
        deadline, values = time.monotonic() + EXCHANGE_SECONDS, []
        for k in range(self.count):
            left = max(1, int(1000 * (deadline - time.monotonic())))
            try:
                found = self._client.blocking_key_value_get(f"pgjax/{name}/{k}", left)
            except Exception as e:
                self.suspect()
                raise UserError(
                    f"Process {k} of {self.count} did not come to {name!r} within "
                    f"{EXCHANGE_SECONDS} s ({str(e).splitlines()[0][:200]})."
                ) from None
            values.append(json.loads(found))
        return values

    def suspect(self, wait: float = 0.0) -> None:
        """Something has failed that the loss of a process would explain.

        Ends this process if one is lost indeed; else returns after `wait` seconds.
        """
        self._suspect = True
        self._closing.wait(wait)

    def leave(self, sentence: str) -> None:
        """Tells the others that this process ends, and why; process 0 lets them read it first."""
        self._ending.acquire()  # of whatever the watch would have to say from here on
        self._ended = sentence
        if self.process:
            self._try(self._beat)
        else:
            self._try(self._client.key_value_set, "pgjax/verdict/0", self._told(0, sentence))
            deadline = time.monotonic() + 3 * PERIOD
            while time.monotonic() < deadline and not all(b.ended for b in self._beats.values()):
                time.sleep(0.1)
        self._closing.set()

    def close(self) -> None:
        """Ends the watch: every process has come to the end of the run."""
        self._closing.set()

    # ---- threads ---------------------------------------------------------------------------------

    def _talk(self) -> None:
        while not self._closing.wait(0.1 if self._deciding else PERIOD):
            self._try(self._beat)
            self._try(self._read_others)
            self._try(self._agree)

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        """A call to the service; None if that fails, of which `_watch` hears by the silence."""
        try:
            return call(*args)
        except Exception:
            return None

    def _beat(self) -> None:
        self._number += 1
        beat = {"n": self._number, "doing": self._doing, "ended": self._ended}
        self._client.key_value_set(
            f"pgjax/beat/{self.process}", json.dumps(beat), allow_overwrite=True
        )

    def _read_others(self) -> None:
        if self.process:
            found = self._client.key_value_dir_get("pgjax/verdict/")
            self._heard = time.monotonic()
            if found:
                self._end(found[0][1])
            return
        for key, text in self._client.key_value_dir_get("pgjax/beat/"):
            beat, k = json.loads(text), int(key.rpartition("/")[2])
            if k in self._beats and beat["n"] != self._beats[k].number:
                self._beats[k] = _Beat(beat["n"], doing=beat["doing"], ended=beat["ended"])
        self._heard = time.monotonic()

    def _watch(self) -> None:
        while not self._closing.wait(PERIOD / 2):
            limit = SUSPECTED_AFTER if self._suspect else LOST_AFTER
            now = time.monotonic()
            if self._relay is not None:
                silent = now - self._heard
                if self._relay.lost.is_set() or silent > limit:
                    self._end(self._lost(0, self._doing, 0 if silent < limit else silent))
                continue
            for k, beat in self._beats.items():
                if beat.ended is not None:
                    self._end(self._told(k, beat.ended))
                elif now - beat.since > limit:
                    self._end(self._lost(k, beat.doing, now - beat.since))

    def _agree(self) -> None:
        """One step towards what is due when: nobody may tick while it is found out."""
        n = self._round
        if self._wishes and not self._deciding:
            self._try(self._client.key_value_set, f"pgjax/wish/{n}/0", self._wishes[0])
        found = self._client.key_value_dir_get(f"pgjax/wish/{n}/")
        if not found:
            return
        if not self._deciding:
            with self._changed:
                self._deciding, ticks = True, self._ticks
            self._client.key_value_set(f"pgjax/tick/{n}/{self.process}", str(ticks))
        at = self._client.key_value_dir_get(f"pgjax/tick/{n}/")
        if len(at) < self.count:
            return
        what = found[0][1]
        with self._changed:
            # Later than where anybody was: those who wait in their next tick are there then.
            self._decided = (max(int(ticks) for _, ticks in at) + 1, what)
            self._deciding, self._round = False, n + 1
            if what in self._wishes:
                self._wishes.remove(what)
            self._changed.notify_all()

    # ---- the end ---------------------------------------------------------------------------------

    def _lost(self, k: int, doing: str, silent: float) -> str:
        where = f" at {self.address}" if k == 0 else ""
        why = f"no sign of life for {silent:.0f} s" if silent else "its connection closed"
        return (
            f"Process {k} of {self.count}{where} was lost ({why}, last seen at: {doing}); what was "
            f"saved is whole: {_RESUME}."
        )

    def _told(self, k: int, sentence: str) -> str:
        return f"Process {k} of {self.count} ended: {sentence}"

    def _end(self, sentence: str) -> None:
        """Ends this process: its main thread may wait for the lost one without end."""
        if not self._ending.acquire(blocking=False):
            return
        if not self.process:
            self._try(self._client.key_value_set, "pgjax/verdict/0", sentence)
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        if not self.process:
            time.sleep(3 * PERIOD)  # the service ends with this process
        os._exit(1 if " ended: " in sentence else TEMPORARY)


_peers: Peers | None = None


def join(address: str = "", relay: Relay | None = None) -> None:
    """Makes this process one of several that jax has brought together; see `Peers`."""
    global _peers
    state = distributed.global_state  # jax has no public name for its client
    _peers = Peers(
        state.client, state.process_id, state.num_processes, address or state.coordinator_address,
        relay,
    )  # fmt: skip


def get_peers() -> Peers | None:
    """The processes of this run; None for a run of one process."""
    if _peers is None and distributed.global_state.client is not None:
        join()  # whoever called jax.distributed.initialize, it was not pgjax.distributed.start
    return _peers


def doing(what: str) -> None:
    """Says what this process does now, see `Peers.doing`."""
    if found := get_peers():
        found.doing(what)


def exchange(name: str, value: Any) -> list[Any]:
    """Every process's JSON value, see `Peers.exchange`; of a single process, `[value]`."""
    found = get_peers()
    return [value] if found is None else found.exchange(name, value)
