"""Processes that we start, know, and end: by their ids, never by name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from milonga.deploy import _child
from milonga.deploy._signals import without_interruption
from milonga.errors import DeploymentError

__all__ = ["STOP_GRACE", "Process", "stop_all"]

STOP_GRACE = 5.0
"""Seconds that processes have to end by themselves after SIGTERM."""

_TAIL = 15


class Process:
    """One process of ours, with its output in a file.

    It has a process group of its own, so that Ctrl-C on a terminal reaches only the program that
    owns it, which then ends it in order. It dies at the latest with the thread that started it.

    Parameters
    ----------
    name : str
        What to call it in messages.
    command : sequence of str
        Program and arguments; the program with its whole path.
    log : Path
        File for its output; appended to.
    environment : mapping, optional
        Its whole environment. Default: ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._environment = None if environment is None else dict(environment)
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it.

        Raises
        ------
        DeploymentError
            If the operating system cannot start it.
        """
        launcher = [sys.executable, "-I", "-S", str(_child.__file__), str(os.getpid())]
        try:
            with without_interruption(), self.log.open("ab") as log:
                self._popen = subprocess.Popen(
                    [*launcher, *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    process_group=0,
                )
        except OSError as error:
            raise DeploymentError(f"process {self.name} cannot be started: {error}") from error

    @property
    def pid(self) -> int | None:
        """Its id; None before it was started."""
        return None if self._popen is None else self._popen.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs and before it was started."""
        return None if self._popen is None else self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._popen is not None and self._popen.poll() is None

    def tail(self) -> str:
        """Give the last lines of its output."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-_TAIL:]) or "(the log is empty)"

    def ended(self) -> str:
        """Say how it ended, with the end of its log."""
        return f"process {self.name} {_ending(self.returncode)}; end of its log:\n{self.tail()}"

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait for its end, at most `timeout` seconds; say whether it has ended."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            return False
        return True


def stop_all(processes: Iterable[Process], grace: float = STOP_GRACE) -> list[str]:
    """End processes: SIGTERM to all, then SIGKILL to those that are left.

    Not interrupted by Ctrl-C; takes little longer than `grace`.

    Parameters
    ----------
    processes : iterable of Process
        Started or not.
    grace : float
        Seconds to wait between the two.

    Returns
    -------
    list of str
        Names of those that had to be killed.
    """
    processes = list(processes)
    killed = []
    with without_interruption():
        for process in processes:
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        for process in processes:
            if not process.wait(deadline - time.monotonic()):
                killed.append(process.name)
                process.signal(signal.SIGKILL)
        for process in processes:
            process.wait(grace)
    return killed


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return "still runs"
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with code {returncode}"
