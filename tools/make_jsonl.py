"""Forwards to `pgjax make-jsonl`, which is what this command is called now."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["make-jsonl", *sys.argv[1:]])
