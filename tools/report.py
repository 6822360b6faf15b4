"""This command is now `pgjax report`; its former name, `python tools/report.py`, does the same."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
