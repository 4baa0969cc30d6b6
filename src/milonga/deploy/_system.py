"""A deployed system: a database, device servers as real processes, and their orderly end."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from milonga.deploy._database import LOOPBACK, Database, connect
from milonga.deploy._processes import Process, stop_all
from milonga.deploy._registration import register
from milonga.deploy._serving import endpoint, server_program
from milonga.deploy._signals import without_interruption
from milonga.deploy._topology import ServerEntry, Topology
from milonga.errors import DeploymentError

if TYPE_CHECKING:
    import tango

__all__ = ["System"]

_LOOK_EVERY = 0.05
_PING_TIMEOUT = 1.0
# cppTango refuses to reconnect within a second of a failure, whatever the other side does by then
_HOLD_OFF = 1.1


class System:
    """Everything that a topology describes, running.

    A context manager: entered, all devices answer; left, no process and no temporary file remains.
    Start it from a thread that stays (the processes die with the thread that started them, even if
    it is killed by SIGKILL, when only the temporary folder remains), and from the main thread if
    Ctrl-C is to be safe at every moment.

    Parameters
    ----------
    topology : Topology
        The system.
    tango_host : str, optional
        ``host:port`` of a database that is already there; only servers are started then.
        Default: a database of our own.
    port : int
        Port of our own database; 0 takes a free one.
    database_file : Path, optional
        SQLite file of our own database. Default: a temporary one.
    log_folder : Path, optional
        Where processes write their output; kept. Default: a temporary folder, removed at the end.
    listen : str
        Address at which the servers listen; our own database listens on the loopback only.
    timeout : float
        Seconds until all devices must answer.
    tell : callable, optional
        Is told in words what goes on.

    Examples
    --------
    ::

        with System(Topology.load("mid-csp.yaml")) as system:
            print(system.tango_host, system.trl("subarray-01"))
    """

    def __init__(
        self,
        topology: Topology,
        *,
        tango_host: str | None = None,
        port: int = 0,
        database_file: Path | None = None,
        log_folder: Path | None = None,
        listen: str = LOOPBACK,
        timeout: float = 60.0,
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.topology = topology
        self._tango_host = tango_host
        self._port = port
        self._database_file = database_file
        self._log_folder = log_folder
        self._listen = listen
        self._timeout = timeout
        self._tell = tell
        self._temporary: Path | None = None
        self._database: Database | None = None
        self._servers: dict[str, Process] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def tango_host(self) -> str:
        """The value for TANGO_HOST while the system runs."""
        if self._database is not None:
            return self._database.tango_host
        if self._tango_host is None:
            raise DeploymentError(f"system {self.topology.name} was not started")
        return self._tango_host

    @property
    def processes(self) -> tuple[Process, ...]:
        """All processes that we started: the database first, if it is ours, then the servers."""
        database = () if self._database is None else (self._database.process,)
        return (*database, *self._servers.values())

    @property
    def log_folder(self) -> Path:
        """Where the processes write their output."""
        folder = self._log_folder or self._temporary
        if folder is None:
            raise DeploymentError(f"system {self.topology.name} was not started")
        return folder

    def trl(self, name: str) -> str:
        """Give the whole Tango address of a device by its name in the topology.

        Whole, because a process that talks to more than one database must not rely on TANGO_HOST.
        """
        return f"tango://{self.tango_host}/{self.topology.device(name).device}"

    def start(self) -> None:
        """Start everything and wait until every device answers.

        Raises
        ------
        DeploymentError
            If anything does not start; what was started before is stopped again.
        Unreachable
            If the given database does not answer.
        """
        deadline = time.monotonic() + self._timeout
        try:
            self._start(deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes, remove temporary files. Not interrupted by Ctrl-C; safe to repeat."""
        with without_interruption():
            # servers first: at their end they tell the database that their devices are gone
            killed = stop_all(self._servers.values())
            if killed:
                self._tell(f"had to be killed: {', '.join(killed)}")
            self._servers.clear()
            if self._database is not None:
                self._database.stop()
                self._database = None
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)
                self._temporary = None

    def ended(self) -> list[Process]:
        """Find the processes that have ended although nobody stopped them."""
        return [process for process in self.processes if not process.running]

    def _start(self, deadline: float) -> None:
        if self.processes:
            raise DeploymentError(f"system {self.topology.name} runs already")
        with without_interruption():
            self._temporary = Path(tempfile.mkdtemp(prefix="milonga-"))
        if self._log_folder is not None:
            self._log_folder.mkdir(parents=True, exist_ok=True)
        if self._tango_host is None:
            self._tell("starting a Tango database")
            self._database = self._own_database(deadline)
            self._database.start()
        database = connect(self.tango_host)
        register(self.topology, database)
        self._tell(
            f"database at {self.tango_host}; starting {len(self.topology.devices)} devices "
            f"in {len(self.topology.servers)} processes"
        )
        for entry in self.topology.servers:
            self._refuse_second(entry, database)
        for entry in self.topology.servers:
            self._start_server(entry)
        self._wait_until_exported(database, deadline)
        self._wait_until_answering(deadline)

    def _own_database(self, deadline: float) -> Database:
        if self._temporary is None:
            raise DeploymentError("no temporary folder")
        return Database(
            self._temporary if self._log_folder is None else self._log_folder,
            file=self._database_file or self._temporary / "tango.db",
            port=self._port,
            timeout=deadline - time.monotonic(),
        )

    def _start_server(self, entry: ServerEntry) -> None:
        arguments = [*server_program(entry), *endpoint(self._listen)]
        environment = os.environ | dict(entry.environment) | {"TANGO_HOST": self.tango_host}
        log = self.log_folder / f"{entry.name}.log"
        process = Process(entry.name, arguments, log, environment)
        with without_interruption():
            process.start()
            self._servers[entry.name] = process

    def _refuse_second(self, entry: ServerEntry, database: "tango.Database") -> None:
        """Say that a server runs already before a second one fails for that reason."""
        import tango  # noqa: PLC0415 - slow to load, and the command line must not wait for it

        name = f"dserver/{entry.full_name}"
        if not database.get_device_info(name).exported:
            return
        try:
            tango.DeviceProxy(f"tango://{self.tango_host}/{name}").ping()
        except tango.DevFailed:
            return  # it was killed and could not sign off
        raise DeploymentError(
            f"server {entry.full_name} runs already on {self.tango_host}; "
            "expected it not to run, as it would be started here"
        )

    def _wait_until_exported(self, database: "tango.Database", deadline: float) -> None:
        """Wait until each device was announced by the process that we started.

        The process id is looked at because a killed server leaves its announcement behind.
        """
        waiting = list(self.topology.devices)
        while waiting:
            self._check_running()
            still = []
            for entry in waiting:
                info = database.get_device_info(entry.device)
                if not info.exported or info.pid != self._servers[entry.server].pid:
                    still.append(entry)
            waiting = still
            if waiting and time.monotonic() > deadline:
                entry = waiting[0]
                raise DeploymentError(
                    f"{len(waiting)} of {len(self.topology.devices)} devices did not start within "
                    f"{self._timeout:g} s, first {entry.device}: "
                    f"{self._servers[entry.server].ended()}"
                )
            if waiting:
                time.sleep(_LOOK_EVERY)

    def _wait_until_answering(self, deadline: float) -> None:
        """Wait until each device answers, and its server takes subscriptions."""
        import tango  # noqa: PLC0415 - as above

        from milonga.lrc import wait_until_started  # noqa: PLC0415 - it loads tango

        for entry in self.topology.devices:
            while True:
                self._check_running()
                try:
                    proxy = tango.DeviceProxy(f"tango://{self.tango_host}/{entry.device}")
                    proxy.set_timeout_millis(round(_PING_TIMEOUT * 1000))
                    proxy.ping()
                    wait_until_started(proxy)
                    break
                except tango.DevFailed as error:
                    if time.monotonic() > deadline:
                        raise DeploymentError(
                            f"device {entry.device} does not answer: {error.args[0].desc.strip()}"
                        ) from error
                    time.sleep(_HOLD_OFF)

    def _check_running(self) -> None:
        for process in self.ended():
            raise DeploymentError(process.ended())
