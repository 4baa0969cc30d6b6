"""The device server."""

import logging
import sys
from collections.abc import Sequence

from tango.server import run

from milonga.devices._classes import load_classes, needed_classes
from milonga.devices._event_socket import start_anew_if_deaf
from milonga.devices._logging import chosen_formatter
from milonga.errors import MonitoringError
from milonga.monitoring import Check, process_monitor, serve_if_wanted

__all__ = ["SERVER_NAME", "main"]

SERVER_NAME = "milonga-server"
"""Name of the Tango server; an instance name follows it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the device server; the arguments are Tango's, the first is the instance name."""
    handler = logging.StreamHandler(sys.stdout)
    try:
        handler.setFormatter(chosen_formatter())
    except MonitoringError as error:
        sys.exit(f"{SERVER_NAME}: {error}")
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    monitor = process_monitor()
    monitor.add_check(main, "start", Check.READY, lambda: "the devices are being started")
    try:
        serve_if_wanted()
    except MonitoringError as error:
        sys.exit(f"{SERVER_NAME}: {error}")

    def started() -> None:
        start_anew_if_deaf()
        monitor.remove(main)

    given = sys.argv[1:] if arguments is None else arguments
    run(
        load_classes(needed_classes(SERVER_NAME, given)),
        args=[SERVER_NAME, *given],
        post_init_callback=started,
    )
