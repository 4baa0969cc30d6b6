"""The serving side of the protocol: accepts commands, runs them in turn, aborts them.

One command runs at a time, first in first out; Abort overtakes. What a command does is a `Job`'s
business: it starts on the device's scheduler, returns at once, and reports from any thread.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc._publisher import Publisher
from milonga.lrc._record import Origin
from milonga.lrc._table import CommandTable
from milonga.lrc._wire import command_name, legal_text

__all__ = ["CommandServer", "Job", "Reply", "Reporter"]

_log = logging.getLogger(__name__)

Reply = tuple[ResultCode, str]
"""What the caller of a command gets: code, and command id or reason."""

_ABORTED = (ResultCode.ABORTED, "Command has been aborted")
_BEING_ABORTED = "Queue is being aborted"
_DEFAULT_RESULTS: dict[TaskStatus, Reply] = {
    TaskStatus.ABORTED: _ABORTED,
    TaskStatus.FAILED: (ResultCode.FAILED, "Command failed without a message"),
    TaskStatus.REJECTED: (ResultCode.REJECTED, "Command was rejected without a message"),
}


class Reporter(Protocol):
    """How a job tells what becomes of it. Callable from any thread; never raises."""

    def __call__(
        self,
        *,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
    ) -> None:
        """Report any of the three."""


def _nothing() -> None:
    pass


def _nothing_submitted(uid: str) -> None:
    pass


def _nothing_ended(status: TaskStatus, result: object) -> None:
    pass


@dataclass(slots=True)
class Job:
    """One command to be run.

    Parameters
    ----------
    name : str
        The command's name.
    start : callable
        Begins the work and returns at once; gets a `Reporter`.
    abort : callable
        Asks running work to end; it then reports ABORTED.
    is_allowed : callable, optional
        Asked when the command leaves the queue; a false answer rejects it.
    on_accepted, on_started : callable
        Called before the command is queued and when it starts. `on_accepted` may raise to refuse.
    on_submitted : callable
        Called with the command's id before it is queued.
    on_ended : callable
        Called with status and result when the command ends, before clients are told.
    origin : Origin, optional
        Who called the command.
    """

    name: str
    start: Callable[[Reporter], None]
    abort: Callable[[], None] = _nothing
    is_allowed: Callable[[], bool] | None = None
    on_accepted: Callable[[], None] = _nothing
    on_submitted: Callable[[str], None] = _nothing_submitted
    on_started: Callable[[], None] = _nothing
    on_ended: Callable[[TaskStatus, object], None] = _nothing_ended
    origin: Origin | None = None


@dataclass(slots=True)
class _AbortUnderWay:
    """An abort, with everybody who asked for it."""

    uids: list[str] = field(default_factory=list)
    result: Reply | None = None
    jobs: list[Job] = field(default_factory=list)


class CommandServer:
    """The long-running commands of one device. Safe across threads.

    Parameters
    ----------
    table : CommandTable
        Where the commands are kept.
    publisher : Publisher
        Where news go.
    call_soon : callable
        Runs a function on the thread that starts and ends commands.
    max_queued : int
        How many commands may wait while one runs.
    """

    def __init__(
        self,
        table: CommandTable,
        publisher: Publisher,
        call_soon: Callable[[Callable[[], None]], None],
        max_queued: int = 32,
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._call_soon = call_soon
        self._max_queued = max_queued
        self._lock = threading.Lock()
        # A change and its place among the pushes are one, or a status would overtake its result.
        self._order = threading.Lock()
        self._waiting: deque[tuple[str, Job]] = deque()
        self._reserved = 0
        self._current: tuple[str, Job] | None = None
        self._starting = False
        self._abort: _AbortUnderWay | None = None
        self._closed = False

    def submit(self, job: Job) -> Reply:
        """Queue a command.

        Returns
        -------
        tuple of ResultCode and str
            QUEUED and the command id, or REJECTED and the reason.

        Raises
        ------
        Exception
            What ``job.on_accepted`` raises; the command is then forgotten.
        """
        with self._lock:
            if self._closed:
                return ResultCode.REJECTED, "The device is shutting down"
            aborting = self._abort is not None
            if not aborting:
                if not self._has_room():
                    return (
                        ResultCode.REJECTED,
                        f"Input queue supports a maximum of {self._max_queued} commands",
                    )
                self._reserved += 1
        if aborting:
            return self._reject_while_aborting(job)
        try:
            job.on_accepted()
        except BaseException:
            with self._lock:
                self._reserved -= 1
            raise
        return ResultCode.QUEUED, self._enqueue(job)

    def abort(self, job: Job) -> Reply:
        """Abort everything: what waits ends at once, what runs is asked to.

        `job` carries the abort on, for instance to child devices. An abort during another joins
        it: both end together, with one result.

        Returns
        -------
        tuple of ResultCode and str
            STARTED and the command id of the abort.
        """
        job.on_accepted()
        uid = self._open(job, job.on_submitted)
        self._report(uid, job, status=TaskStatus.IN_PROGRESS)
        with self._lock:
            first = self._abort is None
            if self._abort is None:
                self._abort = _AbortUnderWay()
            self._abort.uids.append(uid)
            self._abort.jobs.append(job)
            waiting = list(self._waiting)
            self._waiting.clear()
            current = self._current
        for waiting_uid, waiting_job in waiting:
            self._report(waiting_uid, waiting_job, status=TaskStatus.ABORTED, result=_ABORTED)
        if first:
            if current is not None:
                current[1].abort()
            self._call_soon(partial(self._carry_abort_on, job))
        return ResultCode.STARTED, uid

    def abort_one(self, uid: str) -> Reply:
        """Abort one command and leave the others.

        Returns
        -------
        tuple of ResultCode and str
            OK and the id, or REJECTED and the reason.
        """
        with self._lock:
            waiting = next((entry for entry in self._waiting if entry[0] == uid), None)
            if waiting is not None:
                self._waiting.remove(waiting)
            current = self._current if self._current and self._current[0] == uid else None
        if waiting is not None:
            self._report(*waiting, status=TaskStatus.ABORTED, result=_ABORTED)
        elif current is not None:
            current[1].abort()
        else:
            status = self._table.status_of(uid)
            if status is TaskStatus.NOT_FOUND:
                return ResultCode.REJECTED, f"No command with id {uid!r} is known"
            if not is_final(status):
                return ResultCode.REJECTED, f"Command {uid} cannot be aborted now"
        return ResultCode.OK, uid

    def close(self, reason: str) -> None:
        """End everything that has not ended, as ABORTED with `reason`; accept nothing more."""
        with self._lock:
            self._closed = True
            unfinished = list(self._waiting)
            self._waiting.clear()
            if self._current is not None:
                unfinished.insert(0, self._current)
            abort = self._abort
            if abort is not None:
                unfinished += zip(abort.uids, abort.jobs, strict=True)
        for uid, job in unfinished:
            job.abort()
            self._report(uid, job, status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, reason))

    def statistics(self) -> dict[str, int]:
        """Return the table's and the publisher's figures."""
        publisher = {f"push_{key}": n for key, n in self._publisher.statistics().items()}
        return self._table.statistics() | publisher

    def _has_room(self) -> bool:
        here = len(self._waiting) + self._reserved + (self._current is not None)
        return here < self._max_queued + 1  # the one that runs does not count

    def _reject_while_aborting(self, job: Job) -> Reply:
        uid = self._open(job, _nothing_submitted)
        result = (ResultCode.REJECTED, _BEING_ABORTED)
        self._tell(uid, None, status=TaskStatus.REJECTED, result=result)
        return result

    def _open(self, job: Job, on_submitted: Callable[[str], None]) -> str:
        with self._order:
            uid, pushes = self._table.open(job.name, job.origin)
            self._publisher.add(pushes)
        on_submitted(uid)
        self._publisher.flush()
        return uid

    def _enqueue(self, job: Job) -> str:
        uid = self._open(job, job.on_submitted)
        self._tell(uid, None, status=TaskStatus.QUEUED)
        with self._lock:
            self._reserved -= 1
            overtaken = self._abort is not None or self._closed
            if not overtaken:
                self._waiting.append((uid, job))
        if overtaken:
            self._report(uid, job, status=TaskStatus.ABORTED, result=_ABORTED)
        self._wake()
        return uid

    def _wake(self) -> None:
        with self._lock:
            if self._starting or self._current is not None or not self._waiting:
                return
            self._starting = True
        self._call_soon(self._start_next)

    def _start_next(self) -> None:
        with self._lock:
            self._starting = False
            if not self._waiting or self._closed:
                return
            self._current = uid, job = self._waiting.popleft()
        refusal = _refusal(job)
        if refusal is not None:
            self._report(uid, job, status=TaskStatus.REJECTED, result=refusal)
            return
        self._report(uid, job, status=TaskStatus.IN_PROGRESS)
        try:
            job.start(partial(self._report, uid, job))
        except Exception as error:  # noqa: BLE001 - anybody's code
            _log.exception("%s raised when it started", uid)
            self._report(
                uid,
                job,
                status=TaskStatus.FAILED,
                result=(
                    ResultCode.FAILED,
                    f"Unhandled exception during execution: {legal_text(error)}",
                ),
            )

    def _report(
        self,
        uid: str,
        job: Job,
        *,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
    ) -> None:
        if self._tell(uid, job, status=status, progress=progress, result=result):
            self._ended(uid)

    def _tell(
        self,
        uid: str,
        job: Job | None,
        *,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
    ) -> bool:
        """Note a report and push what follows from it; tell whether the command ended by it."""
        if status is not None and is_final(status) and result is None:
            done = (ResultCode.OK, f"{command_name(uid)} command completed OK")
            result = _DEFAULT_RESULTS.get(status, done)
        with self._order:
            report = self._table.report(uid, status, progress, result)
            if report is None:
                return False
            self._publisher.add(report.before)
        self._publisher.flush()
        if job is not None and (report.started or report.ended):
            try:
                if report.started:
                    job.on_started()
                elif status is not None:
                    job.on_ended(status, result)
            except Exception:  # noqa: BLE001 - the command's end must reach its clients
                _log.exception("an action of %s failed", uid)
        self._publisher.put(report.after)
        return report.ended

    def _ended(self, uid: str) -> None:
        with self._lock:
            if self._current is not None and self._current[0] == uid:
                self._current = None
        self._finish_abort()
        self._wake()

    def _carry_abort_on(self, job: Job) -> None:
        try:
            job.start(self._abort_reported)
        except Exception as error:  # noqa: BLE001 - anybody's code
            _log.exception("%s could not be carried on", job.name)
            self._abort_reported(
                status=TaskStatus.COMPLETED, result=(ResultCode.FAILED, legal_text(error))
            )

    def _abort_reported(
        self,
        *,
        status: TaskStatus | None = None,
        progress: object = None,  # noqa: ARG002 - an abort shows no progress of its own
        result: object = None,
    ) -> None:
        if status is None or not is_final(status):
            return
        if not isinstance(result, tuple):
            result = _DEFAULT_RESULTS.get(status, (ResultCode.OK, "Abort completed OK"))
        with self._lock:
            if self._abort is not None and self._abort.result is None:
                self._abort.result = result
        self._finish_abort()

    def _finish_abort(self) -> None:
        with self._lock:
            abort = self._abort
            if abort is None or abort.result is None or self._current is not None:
                return
            self._abort = None
        for uid, job in zip(abort.uids, abort.jobs, strict=True):
            self._report(uid, job, status=TaskStatus.COMPLETED, result=abort.result)


def _refusal(job: Job) -> Reply | None:
    """Ask whether a command may still run; return its result if not."""
    try:
        if job.is_allowed is None or job.is_allowed():
            return None
    except Exception as error:  # noqa: BLE001 - a device's own code
        return (
            ResultCode.REJECTED,
            f"Exception from 'is_cmd_allowed' method: {legal_text(error)}",
        )
    return ResultCode.NOT_ALLOWED, "Command is not allowed"
