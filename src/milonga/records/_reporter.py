"""Tell others how tasks stand, without making any task wait (LE-01 to LE-03)."""

import json
import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

__all__ = ["FileReporter", "LogReporter", "QueuedReporter", "Report", "Reporter"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What is told.

    Parameters
    ----------
    task_name : str
        Of which task.
    status : str
        How it stands.
    text : str, optional
        What there is to say.
    values : dict, optional
        Values by name, such as the parameters of a run.
    """

    task_name: str
    status: str
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class Reporter(Protocol):
    """Takes reports; it may be slow, and may raise."""

    def report(self, report: Report) -> None:
        """Tell."""


class LogReporter:
    """Tells a logger."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def report(self, report: Report) -> None:
        """Log one line."""
        self._logger.info("%s status: %s %s", report.task_name, report.status, report.text)


class FileReporter:
    """Appends JSON lines to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def report(self, report: Report) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report), default=str) + "\n")


class QueuedReporter:
    """Passes reports on in a thread of its own; whoever reports never waits.

    When reporters are slower than reports come, the oldest reports are dropped and counted: the
    newest status is the one that matters.

    Parameters
    ----------
    reporters : sequence of Reporter
        Who is told; what one raises is logged and hurts neither the others nor the task.
    capacity : int, optional
        Reports that may wait.
    """

    def __init__(self, reporters: Sequence[Reporter], capacity: int = 1000) -> None:
        self._reporters = tuple(reporters)
        self._queue: queue.Queue[Report | None] = queue.Queue(capacity)
        self.dropped = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._run, name="milonga-reports", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def report(self, report: Report) -> None:
        """Take a report; return at once."""
        self._put(report)

    def close(self, timeout: float = 5.0) -> bool:
        """Tell what waits, and end the thread; return whether it has ended.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait.
        """
        self._put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _put(self, item: Report | None) -> None:
        while True:
            try:
                self._queue.put_nowait(item)
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue
                self.dropped += 1
            else:
                return

    def _run(self) -> None:
        while (report := self._queue.get()) is not None:
            for reporter in self._reporters:
                try:
                    reporter.report(report)
                except Exception:
                    self.failed += 1
                    _logger.exception("a report of %s failed", report.task_name)
