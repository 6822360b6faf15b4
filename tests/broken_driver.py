"""Runs command lines one after another in forks of one process, so that imports are paid once.

Reads `[{"module": …, "argv": […], "max_file": bytes or null}, …]` on stdin and writes
`[{"status": …, "stdout": …, "stderr": …}, …]` to the file named by its argument.
"""

import json
import os
import resource
import runpy
import sys
import tempfile

import pgjax.inference.prediction_records
import pgjax.loading.compiler_options
import pgjax.training.loop  # noqa: F401  (imported here, so that the forks need not)


def run(case):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            if case["max_file"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (case["max_file"],) * 2)
            status = 1
            try:
                sys.argv = [case["module"], *case["argv"]]
                runpy.run_module(case["module"], run_name="__main__", alter_sys=True)
                status = 0
            except SystemExit as e:
                status = e.code if isinstance(e.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status or 0)
        _, status = os.waitpid(pid, 0)
        texts = []
        for f in (out, err):
            f.seek(0)
            texts.append(f.read())
        return {
            "status": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]
        }  # fmt: skip


with open(sys.argv[1], "w") as f:
    json.dump([run(case) for case in json.load(sys.stdin)], f)
