"""Forwards to `pgjax check-data`, which is what this command is called now."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["check-data", *sys.argv[1:]])
