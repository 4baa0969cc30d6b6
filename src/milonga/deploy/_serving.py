"""One process of a system, alone: what a container runs.

`System` starts everything on one machine and ends it again. In a cluster each process has its own
container, is started whenever the cluster likes, and is told nothing but the topology file and
where the database is. So it waits for what is not there yet, writes what it owns into the
database, and then becomes the device server, so that signals reach it and its end is the
container's end.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from milonga.deploy._database import LOOPBACK, connect, database_program, split_host
from milonga.deploy._registration import register
from milonga.deploy._topology import ServerEntry, Topology
from milonga.deploy._topology_words import expected_one_of
from milonga.deploy._waiting import WaitingRoom
from milonga.errors import DeploymentError, TopologyError, Unreachable

if TYPE_CHECKING:
    import tango

__all__ = ["become_database", "endpoint", "register_when_there", "serve", "server_program"]

# cppTango refuses to reconnect within a second of a failure, whatever the other side does by then
_HOLD_OFF = 1.1
_REMIND_EVERY = 30.0

_Tell = Callable[[str], None]


def endpoint(listen: str) -> list[str]:
    """Write the options by which a Tango server listens at an address only.

    Parameters
    ----------
    listen : str
        Address or host name; ``0.0.0.0`` means every interface.

    Examples
    --------
    >>> endpoint("127.0.0.1")
    ['-ORBendPoint', 'giop:tcp:127.0.0.1:0']
    """
    return ["-ORBendPoint", f"giop:tcp:{listen}:0"]


def server_program(entry: ServerEntry) -> list[str]:
    """Find the program of a device server, and its arguments up to the instance name.

    Raises
    ------
    DeploymentError
        If the server's command is no program here.
    """
    command = [part.replace("{python}", sys.executable) for part in entry.command]
    command = command or [sys.executable, "-m", "milonga.devices"]
    program = shutil.which(command[0])
    if program is None:
        raise DeploymentError(
            f"server {entry.name}: found the command {command[0]!r}, expected a program"
        )
    return [program, *command[1:], entry.name]


def serve(
    topology: Topology,
    name: str,
    *,
    tango_host: str,
    listen: str = LOOPBACK,
    timeout: float | None = None,
    health_port: int | None = None,
    more: Sequence[str] = (),
    tell: _Tell = lambda _text: None,
) -> NoReturn:
    """Register one server's devices as soon as the database answers, and become that server.

    Parameters
    ----------
    topology : Topology
        The system that the server belongs to.
    name : str
        The server's name in the topology.
    tango_host : str
        ``host:port`` of the Tango database.
    listen : str
        Address to listen at.
    timeout : float, optional
        Seconds to wait for the database. Default: for ever, as a container should.
    health_port : int, optional
        Port at which to answer probes while waiting; the server answers there afterwards.
    more : sequence of str
        More arguments for the server, such as ``-v4``.
    tell : callable, optional
        Is told in words what goes on.

    Raises
    ------
    TopologyError
        If the topology has no such server.
    DeploymentError
        If its devices belong to somebody else, or its program is not installed.
    Unreachable
        If the database does not answer in time.
    """
    entries = {entry.name: entry for entry in topology.servers}
    if name not in entries:
        raise TopologyError(f"topology {topology.name}: {expected_one_of(name, list(entries))}")
    entry = entries[name]
    program = server_program(entry)
    with WaitingRoom(listen, health_port) as room:
        room.reason = f"waiting for the Tango database at {tango_host}"
        register_when_there(topology, tango_host, server=name, timeout=timeout, tell=tell)
    tell(f"server {entry.full_name} is registered at {tango_host}, starting it")
    chosen = [] if "-ORBendPoint" in more else endpoint(listen)
    environment = os.environ | dict(entry.environment) | {"TANGO_HOST": tango_host}
    if health_port is not None:
        environment["MILONGA_HEALTH_PORT"] = str(health_port)
    _become([*program, *more, *chosen], environment)


def register_when_there(
    topology: Topology,
    tango_host: str,
    *,
    server: str | None = None,
    timeout: float | None = None,
    tell: _Tell = lambda _text: None,
) -> None:
    """Write a topology, or one server of it, into a database as soon as that answers.

    Parameters
    ----------
    topology : Topology
        The system.
    tango_host : str
        ``host:port`` of the Tango database.
    server : str, optional
        Only this server's devices.
    timeout : float, optional
        Seconds to wait. Default: for ever.
    tell : callable, optional
        Is told in words what it waits for.

    Raises
    ------
    DeploymentError
        If devices belong to somebody else.
    Unreachable
        If the database does not answer in time.
    """
    import tango  # noqa: PLC0415 - slow to load, and the command line must not wait for it

    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        database = _wait_for_database(tango_host, deadline, tell)
        try:
            register(topology, database, server=server)
        except tango.DevFailed as error:
            # it went away again; what was written so far is written once more
            reason = error.args[0].desc.strip()
            if deadline is not None and time.monotonic() > deadline:
                raise Unreachable(
                    f"the Tango database at {tango_host} did not take the devices: {reason}"
                ) from error
            tell(f"the Tango database at {tango_host} went away: {reason}")
            time.sleep(_HOLD_OFF)
        else:
            return


def become_database(folder: Path, *, host: str = LOOPBACK, port: int = 10000) -> NoReturn:
    """Become a Tango database that keeps its content in a folder.

    Parameters
    ----------
    folder : Path
        Where its file ``tango.db`` is, or will be.
    host : str
        Address to listen at.
    port : int
        TCP port.

    Raises
    ------
    DeploymentError
        If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeploymentError(f"folder {folder} cannot be made: {error.strerror}") from error
    _become(*database_program(folder.absolute() / "tango.db", host, port))


def _wait_for_database(tango_host: str, deadline: float | None, tell: _Tell) -> "tango.Database":
    split_host(tango_host)
    remind = 0.0
    while True:
        try:
            return connect(tango_host)
        except Unreachable as error:
            now = time.monotonic()
            if deadline is not None and now > deadline:
                raise
            if now >= remind:
                tell(f"waiting: {str(error).splitlines()[0]}")
                remind = now + _REMIND_EVERY
        time.sleep(_HOLD_OFF)


def _become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], list(command), dict(environment))  # noqa: S606 - no shell wanted
