"""The server for faulty devices: Milonga's own classes, and `FaultyLeaf`."""

import logging
import sys
from collections.abc import Sequence

from tango.server import run

from milonga.devices import load_classes, needed_classes
from milonga.testing._leaf import FaultyLeaf

__all__ = ["SERVER_NAME", "main"]

SERVER_NAME = "milonga-faulty"
"""Name of the Tango server; an instance name follows it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server; the arguments are Tango's, the first is the instance name."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
    given = sys.argv[1:] if arguments is None else arguments
    own = load_classes(needed_classes(SERVER_NAME, given))
    run((*own, FaultyLeaf), args=[SERVER_NAME, *given])
