"""The serving side of the protocol: accepts commands, runs them in turn, aborts them.

One command runs at a time, first in first out; Abort and safety commands overtake. What a command
does is a `Job`'s business: it starts on the device's scheduler, returns at once, and reports from
any thread.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc._abort_lane import AbortLane
from milonga.lrc._ending import (
    ABORTED,
    BEING_ABORTED,
    SHUT,
    End,
    UnderWay,
    refusal_of,
    result_of,
)
from milonga.lrc._job import Job, Reply
from milonga.lrc._overtaking import Overtakers, remarked
from milonga.lrc._publisher import Publisher
from milonga.lrc._record import CommandRecord
from milonga.lrc._safety_lane import SafetyLane
from milonga.lrc._scheduler import Timer
from milonga.lrc._table import CommandTable
from milonga.lrc._wire import legal_text

__all__ = ["CommandServer"]

_log = logging.getLogger(__name__)


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
    call_later : callable
        The same, after a delay in seconds: ``call_later(delay, function)``.
    max_queued : int
        How many commands may wait while one runs.
    abort_timeout : float
        Seconds after which an Abort is over, and what runs with it.
    """

    def __init__(
        self,
        table: CommandTable,
        publisher: Publisher,
        call_soon: Callable[[Callable[[], None]], None],
        call_later: Callable[[float, Callable[[], None]], Timer],
        max_queued: int = 32,
        abort_timeout: float = 4.5,
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._call_soon = call_soon
        self._max_queued = max_queued
        self._lock = threading.Lock()
        # A change and its place among the pushes are one, or a status would overtake its result.
        self._order = threading.Lock()
        self._waiting: deque[tuple[str, Job]] = deque()
        self._readmitted: set[str] = set()
        self._reserved = 0
        self._current: tuple[str, Job] | None = None
        self._starting = False
        self._overtakers = Overtakers()
        self._safety = SafetyLane(self, self._overtakers)
        self._aborts = AbortLane(self, call_later, abort_timeout)
        self._late_ends = 0
        self._held = False
        self._closed = False
        self._ending = 0
        self._quieter = threading.Condition(self._lock)

    def hold(self) -> None:
        """Start nothing until `release`; what is submitted waits."""
        with self._lock:
            self._held = True

    def release(self) -> None:
        """Start what waits."""
        with self._lock:
            self._held = False
        self._wake()

    def restore(self, records: Sequence[CommandRecord]) -> None:
        """Show commands that had ended before a restart, oldest first."""
        with self._order:
            self._publisher.add(self._table.restore(records))
        self._publisher.flush()

    def readmit(self, uid: str, job: Job, submitted_time: str) -> bool:
        """Queue a command that was accepted before a restart, under the id that it has.

        It goes before those that were accepted since.

        Parameters
        ----------
        uid : str
            The command's id.
        job : Job
            What is left to do.
        submitted_time : str
            When it was accepted, as the wire has it.

        Returns
        -------
        bool
            Whether it is queued; not if a command of this id is known here already.
        """
        if self.knows(uid):
            return False
        self._open(job, job.on_submitted, uid=uid, submitted_time=submitted_time)
        self._tell(uid, None, status=TaskStatus.QUEUED)
        with self._lock:
            earlier = sum(waiting in self._readmitted for waiting, _ in self._waiting)
            self._readmitted.add(uid)
            self._waiting.insert(earlier, (uid, job))
        self._wake()
        return True

    def knows(self, uid: str) -> bool:
        """Tell whether a command of this id was accepted here, and is not forgotten."""
        return self._table.status_of(uid) is not TaskStatus.NOT_FOUND

    def status_of(self, uid: str) -> TaskStatus:
        """Return the status of a command; NOT_FOUND for one that is not remembered.

        One that is not known while commands are held may still come back, which is no loss.
        """
        status = self._table.status_of(uid)
        with self._lock:
            may_come = self._held and status is TaskStatus.NOT_FOUND
        return TaskStatus.STAGING if may_come else status

    def submit(self, job: Job) -> Reply:
        """Queue a command; a safety command starts at once.

        Returns
        -------
        tuple of ResultCode and str
            QUEUED and the command id, or REJECTED and the reason; STARTED and the id for a safety
            command, or for a call that joins one.

        Raises
        ------
        Exception
            What ``job.on_accepted`` raises; the command is then forgotten.
        """
        if job.safety:
            return self._safety.overtake(job)
        with self._lock:
            if self._closed:
                return SHUT
            aborting = self._aborts.under_way is not None
            if not aborting:
                if not self._has_room():
                    text = f"Input queue supports a maximum of {self._max_queued} commands"
                    return ResultCode.REJECTED, text
                self._reserved += 1
        if aborting:
            uid = self._open(job, lambda _uid: None)
            self._tell(uid, None, status=TaskStatus.REJECTED, result=BEING_ABORTED)
            return BEING_ABORTED
        try:
            job.on_accepted()
        except BaseException:
            with self._lock:
                self._reserved -= 1
            raise
        return ResultCode.QUEUED, self._enqueue(job)

    def abort(self, job: Job) -> Reply:
        """Abort everything but safety commands: what waits ends at once, what runs is asked to.

        `job` carries the abort on, for instance to child devices. An abort during another joins
        it: both end together, with one result, and `job` does nothing; its `joins` has the id of
        the other.

        What has not ended after the abort timeout counts as aborted, and the result says so.

        Returns
        -------
        tuple of ResultCode and str
            STARTED and the command id of the abort.
        """
        return self._aborts.abort(job)

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
            running = self._running(uid)
        if waiting is not None:
            self._report(*waiting, status=TaskStatus.ABORTED, result=ABORTED)
        elif running is not None:
            running.abort()
        else:
            status = self._table.status_of(uid)
            if status is TaskStatus.NOT_FOUND:
                return ResultCode.REJECTED, f"No command with id {uid!r} is known"
            if not is_final(status):
                return ResultCode.REJECTED, f"Command {uid} cannot be aborted now"
        return ResultCode.OK, uid

    def close(self, reason: str, patience: float = 0.0) -> None:
        """End everything that has not ended, as ABORTED with `reason`; accept nothing more.

        Parameters
        ----------
        reason : str
            The message of what is ended here.
        patience : float
            Seconds that what runs has to end by itself once it is asked to, and seconds that
            whoever has a word in a command's end has for it.
        """
        with self._lock:
            self._closed = True
            unfinished = list(self._waiting)
            self._waiting.clear()
            if self._current is not None:
                unfinished.insert(0, self._current)
            unfinished += self._overtakers.members
            abort = self._aborts.under_way
            if abort is not None:
                unfinished += abort.members
        for _, job in unfinished:
            job.abort()
        with self._quieter:
            self._quieter.wait_for(lambda: self._current is None and not self._overtakers, patience)
        for uid, job in unfinished:
            self._report(uid, job, status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, reason))
        with self._quieter:
            self._quieter.wait_for(lambda: not self._ending, patience)

    def statistics(self) -> dict[str, int]:
        """Return the table's and the publisher's figures, and how many ends came too late."""
        publisher = {f"push_{key}": n for key, n in self._publisher.statistics().items()}
        return self._table.statistics() | publisher | {"late_ends": self._late_ends}

    def _has_room(self) -> bool:
        here = len(self._waiting) + self._reserved + (self._current is not None)
        return here < self._max_queued + 1  # the one that runs does not count

    def _running(self, uid: str) -> Job | None:
        """Return a command that runs. To be called under the lock."""
        if self._current is not None and self._current[0] == uid:
            return self._current[1]
        return self._overtakers.job(uid)

    def _join(self, under_way: UnderWay, uid: str, job: Job) -> bool:
        """Have a command end with another; tell whether that has not ended, or else it does now."""
        with self._lock:
            end = under_way.end
            if end is None and self._closed:
                end = (TaskStatus.ABORTED, ABORTED)
            if end is None:
                under_way.members.append((uid, job))
        if end is not None:
            self._report(uid, job, status=end[0], result=end[1])
        return end is None

    def _open(
        self,
        job: Job,
        on_submitted: Callable[[str], None],
        *,
        uid: str | None = None,
        submitted_time: str | None = None,
    ) -> str:
        with self._order:
            uid, pushes = self._table.open(
                job.name, job.origin, uid=uid, submitted_time=submitted_time
            )
            self._publisher.add(pushes)
        try:
            on_submitted(uid)
        except Exception:  # noqa: BLE001 - or its place would be taken for ever
            _log.exception("what comes with the submission of %s failed", uid)
        self._publisher.flush()
        return uid

    def _enqueue(self, job: Job) -> str:
        uid = self._open(job, job.on_submitted)
        self._tell(uid, None, status=TaskStatus.QUEUED)
        with self._lock:
            self._reserved -= 1
            overtaken = self._aborts.under_way is not None or self._closed
            if not overtaken:
                self._waiting.append((uid, job))
        if overtaken:
            self._report(uid, job, status=TaskStatus.ABORTED, result=ABORTED)
        self._wake()
        return uid

    def _wake(self) -> None:
        with self._lock:
            idle = not (self._starting or self._held or self._current is not None)
            if not (idle and self._waiting):
                return
            self._starting = True
        self._call_soon(self._start_next)

    def _start_next(self) -> None:
        with self._lock:
            self._starting = False
            if not self._waiting or self._closed or self._held or self._overtakers:
                return
            self._current = uid, job = self._waiting.popleft()
        refusal = refusal_of(job)
        if refusal is not None:
            self._report(uid, job, status=TaskStatus.REJECTED, result=refusal)
            return
        begin = partial(self._begin, uid, job)
        try:
            job.before_start(uid, begin)
        except Exception:  # noqa: BLE001 - what is beside the command must not keep it
            _log.exception("what comes before the start of %s failed", uid)
            begin()

    def _begin(self, uid: str, job: Job) -> None:
        with self._lock:
            if job.has_begun or self._running(uid) is None:
                return  # ended while it waited for its start
            job.has_begun = True
        self._report(uid, job, status=TaskStatus.IN_PROGRESS)
        try:
            job.start(partial(self._report, uid, job))
        except Exception as error:  # noqa: BLE001 - anybody's code
            _log.exception("%s raised when it started", uid)
            text = f"Unhandled exception during execution: {legal_text(error)}"
            self._report(uid, job, status=TaskStatus.FAILED, result=(ResultCode.FAILED, text))

    def _report(
        self,
        uid: str,
        job: Job,
        *,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
        extend: float | None = None,
    ) -> None:
        if status is not None and is_final(status):
            self._end(uid, job, status, result_of(uid, status, result))
        else:
            self._tell(uid, job, status=status, progress=progress, result=result, extend=extend)

    def _end(self, uid: str, job: Job, status: TaskStatus, result: object) -> None:
        """End a command, once whoever has a word in it is ready; the first end counts."""
        with self._lock:
            counts = self._takes_end(job)
        if counts:
            self._end_once(uid, job, status, result)
        elif job.given_up:
            _log.warning("%s has ended as %s after it had been given up", uid, status.name)

    def _takes_end(self, job: Job) -> bool:
        """Tell whether a job has not ended yet, which it then has. To be called under the lock."""
        counts = not job.is_ending
        job.is_ending = True
        self._ending += counts
        self._late_ends += job.given_up and not counts
        return counts

    def _end_once(self, uid: str, job: Job, status: TaskStatus, result: object) -> None:
        result = remarked(job, status, result)
        go_on = partial(self._end_now, uid, job, status, result)
        try:
            job.before_end(status, result, go_on)
        except Exception:  # noqa: BLE001 - the command's end must reach its clients
            _log.exception("what comes before the end of %s failed", uid)
            go_on()

    def _end_now(self, uid: str, job: Job, status: TaskStatus, result: object) -> None:
        self._tell(uid, job, status=status, result=result)
        with self._quieter:
            self._ending -= 1
            self._quieter.notify_all()
        # even if the table took no note of it: the next command must start
        self._ended(uid, job, (status, result))

    def _tell(
        self,
        uid: str,
        job: Job | None,
        *,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
        extend: float | None = None,
    ) -> None:
        """Note a report and push what follows from it."""
        with self._order:
            report = self._table.report(uid, status, progress, result, extend)
            if report is None:
                return
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

    def _ended(self, uid: str, job: Job, end: End) -> None:
        with self._lock:
            if self._current is not None and self._current[1] is job:
                self._current = None
            joined = self._overtakers.remove(uid, end)
            self._quieter.notify_all()
        for other_uid, other in joined:
            self._report(other_uid, other, status=end[0], result=end[1])
        self._aborts.finish()
        self._wake()
