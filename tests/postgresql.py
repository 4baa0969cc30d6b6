"""A private PostgreSQL server for tests, where it can be had."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

USER = "postgres"


class NoPostgreSQL(Exception):
    """There is no PostgreSQL that tests can use; the text says why."""


def programs() -> Path:
    """Return the folder of ``initdb`` and ``pg_ctl``, the newest if there are several."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise NoPostgreSQL("initdb and pg_ctl were not found")


def free_port() -> int:
    """Return a port of the loopback interface that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that trusts everybody on this machine, and forgets everything at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._programs = programs()
        self._as_user = []
        if os.geteuid() == 0:  # the server refuses to run as root
            if shutil.which("runuser") is None:
                raise NoPostgreSQL("root needs runuser to start it")
            self._as_user = ["runuser", "-u", USER, "--"]
            shutil.chown(folder, USER)
        self.port = free_port()

    def start(self) -> None:
        """Make the data, and start the server."""
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", USER, "--no-sync")
        options = (
            f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self._folder} "
            "-c fsync=off -c max_connections=50"
        )
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop the server at once, if it runs."""
        with contextlib.suppress(NoPostgreSQL):
            self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def restart(self) -> None:
        """Start the server again after `stop`."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self._folder} -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-o", options, "-w", "start")

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        # Output to a file: a server that is started keeps a pipe open, and the wait would not end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                timeout=60,
                check=False,
            )
            output.seek(0)
            if done.returncode != 0:
                raise NoPostgreSQL(f"{program}: {output.read().decode(errors='replace')[-500:]}")


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Give a server, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="milonga-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = Server(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()
