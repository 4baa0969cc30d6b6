"""How safety commands get past the queue of a command server."""
# ruff: noqa: SLF001 - a part of the command server, whose queue it passes

import logging
from functools import partial
from typing import TYPE_CHECKING

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc._ending import SHUT, UnderWay
from milonga.lrc._job import Job, Reply
from milonga.lrc._overtaking import Overtakers
from milonga.lrc._wire import new_command_id

if TYPE_CHECKING:
    from milonga.lrc._server import CommandServer

__all__ = ["SafetyLane"]

_log = logging.getLogger(__name__)


class SafetyLane:
    """Starts safety commands at once, or has them join. Safe across threads.

    Parameters
    ----------
    server : CommandServer
        The commands of the device.
    overtakers : Overtakers
        Those that run, guarded by the server's lock.
    """

    def __init__(self, server: "CommandServer", overtakers: Overtakers) -> None:
        self._server = server
        self._overtakers = overtakers

    def overtake(self, job: Job) -> Reply:
        """Start a command, and have what runs aborted if it says so.

        Like an Abort, one that joins another does nothing, and its `joins` has the id of that.

        Returns
        -------
        tuple of ResultCode and str
            STARTED and its id; REJECTED if the device is shutting down.
        """
        answer = self._answer_at_once(job.name)
        if answer is not None:
            return answer
        job.on_accepted()
        uid = new_command_id(job.name)
        under_way, interrupted = self._enter(uid, job)
        self._server._open(job, job.on_submitted, uid=uid)
        if job.joins:
            self._server._tell(uid, None, status=TaskStatus.QUEUED)
        goes_on = self._server._join(under_way, uid, job)
        if goes_on and not job.joins:
            # First, as what is sent after them to a device must not be ended by these aborts.
            for other in interrupted:
                other.abort()
            self._server._call_soon(partial(self._begin, uid, job))
        return ResultCode.STARTED, uid

    def _answer_at_once(self, name: str) -> Reply | None:
        """Return the answer to a call of a safety command that does not even join one."""
        with self._server._lock:
            crowded = self._overtakers.crowded(name)
            if self._server._closed:
                return SHUT
        return (ResultCode.STARTED, crowded) if crowded else None

    def _enter(self, uid: str, job: Job) -> tuple[UnderWay, list[Job]]:
        """Take up a command; return it, or the one that it joins, and what it interrupts."""
        server = self._server
        with server._lock:
            first = self._overtakers.running(job.name)
            if first is not None:
                job.joins = first.uid
                return first, []
            waiting = [other for other, _ in server._waiting]
            return self._overtakers.begin(
                uid, job, server._current, waiting, aborting=server._aborts.under_way is not None
            )

    def _begin(self, uid: str, job: Job) -> None:
        """Begin without waiting for whoever has a word in the start."""
        try:
            job.before_start(uid, lambda: None)
        except Exception:  # noqa: BLE001 - what is beside the command must not keep it
            _log.exception("what comes before the start of %s failed", uid)
        self._server._begin(uid, job)
