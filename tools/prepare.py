"""This command is now `pgjax prepare`; its former name, `python tools/prepare.py`, does the same."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])
