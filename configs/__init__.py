"""Configs of runs that are no transfer; installed as pgjax.configs, and named without the folder."""
