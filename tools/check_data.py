"""This command is now `pgjax check-data`; its former name, `python tools/check_data.py`, does the same."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["check-data", *sys.argv[1:]])
