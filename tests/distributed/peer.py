"""A process of several that counts with the others: `peer.py PROCESS COUNT ADDRESS WHAT [SECONDS]`.

WHAT is done by process 1 at its tenth step: `nothing`, `wish`, `error`, `silence` or `crash`.
"""

import os
import signal
import sys
import time

import numpy as np
from jax.experimental import multihost_utils

from pgjax.distributed import doing, exchange, get_peers
from pgjax.distributed.start import leave, start
from pgjax.errors import UserError
from pgjax.training.same_everywhere import check_same

process, count, address, what, *rest = sys.argv[1:]
process, count = int(process), int(count)
try:
    start(address, count, process, timeout=float(rest[0]) if rest else 300)
    assert exchange("numbers", process) == list(range(count))
    if what == "differ":
        facts = {"config": {"lr": 0.1 + process, "seed": 1}, "versions": {"jax": "1"}}
        check_same("facts", facts)
    for step in range(1, 200):
        doing(f"step {step}")
        multihost_utils.process_allgather(np.float32(step))
        time.sleep(0.1)
        if process == 1 and step == 10:
            if what == "wish":
                get_peers().wish("stop")
            elif what == "error":
                raise UserError("A record is bad.")
            elif what == "silence":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif what == "crash":
                raise RuntimeError("crash")
        if wish := get_peers().tick():
            print(f"{wish} at {step}", flush=True)
            break
except UserError as e:
    print(f"error: {e}", file=sys.stderr, flush=True)
    leave(e.status, str(e))
except Exception as e:
    get_peers().suspect(wait=15)
    print(f"error: {e}", file=sys.stderr, flush=True)
    leave(1, str(e))
leave(0, "")
print("done", flush=True)
