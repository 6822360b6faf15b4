"""Forwards to `pgjax demo`, which is what this command is called now."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
