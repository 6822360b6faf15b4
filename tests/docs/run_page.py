"""Runs the blocks of a page in order, in this process: `python run_page.py`, steps on stdin.

Blocks of Python share their names, as cells of a notebook do; blocks of commands run in bash.
"""

import json
import subprocess
import sys

STEPS = json.load(sys.stdin)


def main() -> None:
    """Runs all, and says on the error stream which one failed."""
    names = {"__name__": "__main__"}
    for where, language, code in STEPS:
        try:
            if language == "python":
                page, _, line = where.rpartition(":")
                exec(compile("\n" * (int(line) - 1) + code, page, "exec"), names)
            else:
                subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        except BaseException:
            print(f"{where} failed", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
