"""`milonga up`: a system that runs until it is told to stop."""

import time
from pathlib import Path

import tango  # noqa: F401 - takes long to load, which must not happen while servers are starting
from rich.console import Console
from rich.table import Table

from milonga.cli._console import messages, output
from milonga.cli._exit import ExitCode
from milonga.deploy import System, Topology, ending_signals_interrupt

__all__ = ["up"]

_LOOK_EVERY = 0.5


def up(
    path: Path,
    *,
    tango_host: str | None,
    port: int,
    database_file: Path | None,
    log_folder: Path | None,
    listen: str,
    timeout: float,
) -> ExitCode:
    """Start a system, say how to reach it, and stay until Ctrl-C or SIGTERM.

    Parameters
    ----------
    path : Path
        Topology file.
    tango_host : str or None
        A database that is there already; None starts one.
    port : int
        Port of the database that we start; 0 takes a free one.
    database_file, log_folder : Path or None
        Where to keep the database and the logs; None: in a temporary folder.
    listen : str
        Address at which the servers listen.
    timeout : float
        Seconds until all devices must answer.
    """
    topology = Topology.load(path)
    notes = messages()

    def tell(text: str) -> None:
        notes.print(text, soft_wrap=True)

    system = System(
        topology,
        tango_host=tango_host,
        port=port,
        database_file=database_file,
        log_folder=log_folder,
        listen=listen,
        timeout=timeout,
        tell=tell,
    )
    with ending_signals_interrupt():
        try:
            system.start()
            notes.print(_table(system))
            output().print(f"export TANGO_HOST={system.tango_host}", soft_wrap=True)
            tell(f"logs in {system.log_folder}; stop with Ctrl-C")
            return _stay(system, notes)
        finally:
            system.stop()


def _stay(system: System, notes: Console) -> ExitCode:
    told: set[str] = set()
    try:
        while True:
            for process in system.ended():
                if process.name not in told:
                    told.add(process.name)
                    notes.print(process.ended(), style="red", soft_wrap=True)
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        notes.print("stopping")
        return ExitCode.OK


def _table(system: System) -> Table:
    table = Table("device", "name", "class", "process", title=system.topology.name, box=None)
    for entry in reversed(system.topology.devices):
        table.add_row(entry.device, entry.name, entry.class_name, entry.server)
    return table
