"""The command line: see and command a system without writing code."""

import sys
from typing import NoReturn

from milonga.cli._exit import ExitCode

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and end the program."""
    try:
        # imported here so that Ctrl-C while it loads is no traceback either
        from milonga.cli._app import app  # noqa: PLC0415

        app(prog_name="milonga")
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.OK)
