"""Where the command line writes to: cut and folded only where somebody looks at columns."""

from rich.console import Console

__all__ = ["output"]

_UNCUT = 100_000
"""Columns of a pipe or a file: more than any line has."""


def output() -> Console:
    """Return standard output: as wide as its terminal, or in a pipe, as each line is long."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNCUT)
