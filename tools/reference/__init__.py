"""Writes the pages of the documentation that the code can tell by itself.

``python -m tools.reference`` writes them into ``docs``; with ``--check`` it says whether
those that are there are current.
"""

from collections.abc import Callable

from tools.reference._cli import cli_page
from tools.reference._decisions import decisions_page
from tools.reference._topology import command_map_page, topology_page
from tools.reference._wire import wire_page

__all__ = ["PAGES"]

PAGES: dict[str, Callable[[], str]] = {
    "reference/wire.md": wire_page,
    "reference/command-line.md": cli_page,
    "reference/topology.md": topology_page,
    "reference/command-map.md": command_map_page,
    "explanation/decisions/index.md": decisions_page,
}
"""Place below ``docs``, and what writes the page."""
