"""This command is now `pgjax make-jsonl`; its former name, `python tools/make_jsonl.py`, does the same."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["make-jsonl", *sys.argv[1:]])
