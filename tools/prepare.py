"""Forwards to `pgjax prepare`, which is what this command is called now."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])
