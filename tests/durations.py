"""A fixture of slow tests: named steps, whose durations are printed."""

import contextlib
import time

import pytest


class Steps:
    """Runs named steps; `with steps("train"):` prints how long each took."""

    def __init__(self, user, capsys):
        self._user, self._capsys = user, capsys
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, name):
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        with self._capsys.disabled():
            print(f"\n{self._user}: {name}: {self.seconds[name]:.1f} s", end="", flush=True)

    def close(self):
        with self._capsys.disabled():
            print(f"\n{self._user}: all: {sum(self.seconds.values()):.1f} s", flush=True)


@pytest.fixture
def steps(request, capsys):
    found = Steps(request.node.name.removeprefix("test_"), capsys)
    yield found
    found.close()
