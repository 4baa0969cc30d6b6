"""The command line: see and command a system without writing code."""

from milonga.cli._app import main

__all__ = ["main"]
