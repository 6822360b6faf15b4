"""Configs of transfers, one file each; installed as pgjax.transfers."""
