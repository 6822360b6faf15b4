"""Adapters of the suite, for pgjax and for other implementations where these are installed."""
