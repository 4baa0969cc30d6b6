"""A Tango database of one's own, or the way to one that is already there."""

import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from milonga.deploy._processes import Process, stop_all
from milonga.errors import DeploymentError, Unreachable

if TYPE_CHECKING:
    import tango

__all__ = ["LOOPBACK", "Database", "connect", "database_program", "split_host"]

LOOPBACK = "127.0.0.1"
"""Everything that we start listens here only; Tango's own default is every interface."""

_LISTENING = re.compile(r"Database DS listening on: host=(?P<host>[\w.\-]+), port=(?P<port>\d+)")
_LOOK_EVERY = 0.05


class Database:
    """The database server of pytango-db, in a process of its own.

    Parameters
    ----------
    folder : Path
        Where its log is written, and its SQLite file unless `file` is given.
    file : Path, optional
        SQLite file; a file from an earlier run is used again.
    port : int
        TCP port on 127.0.0.1; 0 takes a free one.
    timeout : float
        Seconds that it may take to answer.
    """

    def __init__(
        self, folder: Path, *, file: Path | None = None, port: int = 0, timeout: float = 20.0
    ) -> None:
        self._file = folder / "tango.db" if file is None else Path(file).absolute()
        self._port = port
        self._timeout = timeout
        self._host: str | None = None
        self._log = folder / "database.log"
        command, environment = database_program(self._file, LOOPBACK, port)
        self._process = Process("database", command, self._log, environment)

    @property
    def tango_host(self) -> str:
        """The value for TANGO_HOST.

        Raises
        ------
        DeploymentError
            If the database does not run.
        """
        if self._host is None:
            raise DeploymentError("the database has no address: it was not started")
        return self._host

    @property
    def process(self) -> Process:
        """Its process."""
        return self._process

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        DeploymentError
            If the port is taken, or the database ends or does not answer in time; the message has
            the end of its log.
        """
        _check_free(self._port)
        if not self._file.parent.is_dir():
            raise DeploymentError(
                f"database file {self._file}: there is no folder {self._file.parent}"
            )
        deadline = time.monotonic() + self._timeout
        offset = self._log.stat().st_size if self._log.exists() else 0
        try:
            self._process.start()
            self._host = self._address(offset, deadline)
            connect(self._host)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; what it stored stays in its file."""
        self._host = None
        stop_all([self._process])

    def _address(self, offset: int, deadline: float) -> str:
        while time.monotonic() < deadline:
            with self._log.open(encoding="utf-8", errors="replace") as log:
                log.seek(offset)
                found = _LISTENING.search(log.read())
            if found:
                return f"{found['host']}:{found['port']}"
            if not self._process.running:
                raise DeploymentError(f"the Tango database did not start: {self._process.ended()}")
            time.sleep(_LOOK_EVERY)
        raise DeploymentError(
            f"the Tango database did not answer within {self._timeout:g} s: {self._process.ended()}"
        )


def database_program(file: Path, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Give the command and the environment of a database server.

    Parameters
    ----------
    file : Path
        Its SQLite file.
    host : str
        Address to listen at.
    port : int
        TCP port; 0 takes a free one, which the server tells on stderr.
    """
    # the name is an instance name, and also the member of its device sys/database/2
    arguments = ["--host", host, "--port", str(port), "--print-host-port", "2"]
    environment = os.environ | {"PYTANGO_DATABASE_NAME": str(file)}
    environment.pop("TANGO_HOST", None)
    return [sys.executable, "-m", "databaseds.database", *arguments], environment


def connect(tango_host: str) -> "tango.Database":
    """Open a Tango database and make sure that it answers.

    Parameters
    ----------
    tango_host : str
        ``host:port``.

    Raises
    ------
    Unreachable
        If it does not answer.
    """
    import tango  # noqa: PLC0415 - slow to load, and the command line must not wait for it

    host, port = split_host(tango_host)
    try:
        database = tango.Database(host, port)
        database.get_info()
    except tango.DevFailed as error:
        raise Unreachable(
            f"no Tango database answers at {tango_host}: {error.args[0].desc.strip()}"
        ) from error
    return database


def split_host(tango_host: str) -> tuple[str, int]:
    """Take ``host:port`` apart.

    Raises
    ------
    DeploymentError
        If it is not of this form.

    Examples
    --------
    >>> split_host("127.0.0.1:10000")
    ('127.0.0.1', 10000)
    """
    host, _, port = tango_host.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:  # noqa: PLR2004 - TCP ports
        raise DeploymentError(f"TANGO_HOST is {tango_host!r}, expected host:port, such as db:10000")
    return host, int(port)


def _check_free(port: int) -> None:
    """Say that a port is taken before the database says it in forty lines."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DeploymentError(
                f"the Tango database cannot listen on {LOOPBACK}:{port}: {reason}; "
                "choose another port, or 0 for a free one"
            ) from error
