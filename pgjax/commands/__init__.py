"""The `pgjax` program: one module for each command, which defines its flags and runs it.

A command's flags belong to one invocation (see `command.py`), so every command module can be
imported in one process. What a command needs beyond its flags is imported when it runs.
"""
