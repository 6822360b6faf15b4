"""Programs that answer by a script, in place of compiled ones: one token after another."""

import threading
import time

import numpy as np

from pgjax.decoding.continuous import Chosen
from pgjax.text.tokenizer import Tokenizer

TEXT = "one red circle and two blue squares on a large green triangle, left of a small purple cross"
SCRIPT = Tokenizer.tiny().encode(TEXT, eos=True)
STEPS = 4


class ScriptedRows:
    """The interface of `RowPrograms`; every row writes `TEXT`.

    Attributes:
      seconds: that each call takes.
      held: calls wait while it is not set.
      fails: the next calls that raise.
      calls: what was called, with the number of rows.
    """

    image_tokens = 64
    longest_answer = 64

    def __init__(self, rows=3, seconds=0.0):
        self.rows, self.seconds, self.fails, self.calls = rows, seconds, 0, []
        self.held = threading.Event()
        self.held.set()

    def sizes(self):
        return sorted({1, self.rows})

    def width(self, tokens):
        return max(16, tokens)

    def empty(self):
        self.calls.append(("empty", self.rows))
        return "cache"

    def join(self, cache, inputs, slots, rows):
        assert cache == "cache" and len(inputs) == len(slots) == len(rows.length)
        assert len({x["text"].shape for x in inputs}) == 1
        return self._called("join", rows, 1)

    def go_on(self, cache, rows):
        assert cache == "cache" and len(rows.length) in self.sizes()
        return self._called("go_on", rows, STEPS)

    def _called(self, what, rows, steps):
        assert self.held.wait(60)
        self.calls.append((what, len(rows.length)))
        time.sleep(self.seconds)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a device failed")
        tokens = np.zeros((len(rows.length), steps), np.int32)
        for row, (count, limit) in enumerate(zip(rows.length, rows.limit, strict=True)):
            ended = count >= limit and what == "go_on"
            script = [] if ended else SCRIPT[count : min(limit, count + steps)]
            tokens[row, : len(script)] = script
        tops = np.broadcast_to(np.arange(20, dtype=np.int32), (*tokens.shape, 20))
        return "cache", Chosen(tokens, -tokens / 1000, tops, -tops / 10.0)
