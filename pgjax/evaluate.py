"""`python -m pgjax.evaluate …` is the same as `pgjax evaluate …`."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
