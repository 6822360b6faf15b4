"""Accelerators by their data sheets, and what their own compilers make of a program."""
