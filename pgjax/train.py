"""`python -m pgjax.train …` is the same as `pgjax train …`."""

import sys

from pgjax.commands.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
