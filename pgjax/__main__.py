"""`python -m pgjax COMMAND …` is the same as `pgjax COMMAND …`."""

from pgjax.commands.main import main

if __name__ == "__main__":
    main()
