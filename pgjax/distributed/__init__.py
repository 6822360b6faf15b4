"""Several processes as one run: how they start, notice that one is lost, and agree on a moment."""

from pgjax.distributed.peers import doing, exchange, get_peers

__all__ = ["doing", "exchange", "get_peers"]
