"""Forwards to `pgjax convert`, which is what this command is called now."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["convert", *sys.argv[1:]])
