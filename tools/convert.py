"""This command is now `pgjax convert`; its former name, `python tools/convert.py`, does the same."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["convert", *sys.argv[1:]])
