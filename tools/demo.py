"""This command is now `pgjax demo`; its former name, `python tools/demo.py`, does the same."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
