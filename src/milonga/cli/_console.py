"""Where the command line writes to: cut and folded only where somebody looks at columns.

Names and messages come from devices: what is in brackets, or between colons, is written as it is.
"""

from typing import Any

from rich.console import Console

__all__ = ["messages", "output"]

_UNCUT = 100_000
"""Columns of a pipe or a file: more than any line has."""

_VERBATIM: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


def output() -> Console:
    """Return standard output: as wide as its terminal, or in a pipe, as each line is long."""
    console = Console(**_VERBATIM)
    return console if console.is_terminal else Console(**_VERBATIM, width=_UNCUT)


def messages() -> Console:
    """Return standard error, for what is no result."""
    return Console(stderr=True, **_VERBATIM)
