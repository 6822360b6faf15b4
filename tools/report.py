"""Forwards to `pgjax report`, which is what this command is called now."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
