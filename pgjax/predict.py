"""`python -m pgjax.predict …` is the same as `pgjax predict …`."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
