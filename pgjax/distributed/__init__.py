"""Several processes as one run: how they start, notice that one is lost, and agree on a moment."""
