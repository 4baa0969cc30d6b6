"""How Aborts end what a command server holds, and end themselves."""
# ruff: noqa: SLF001 - a part of the command server, whose commands it ends

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc._ending import ABORTED, AbortUnderWay
from milonga.lrc._job import Job, Reply
from milonga.lrc._scheduler import Timer
from milonga.lrc._wire import legal_text, new_command_id

if TYPE_CHECKING:
    from milonga.lrc._server import CommandServer

__all__ = ["AbortLane"]

_log = logging.getLogger(__name__)


class AbortLane:
    """Carries Aborts out at once, or has them join. Safe across threads.

    Parameters
    ----------
    server : CommandServer
        The commands of the device.
    call_later : callable
        ``call_later(delay, function)``, with a delay in seconds.
    timeout : float
        Seconds after which an Abort is over, and what runs with it.
    """

    def __init__(
        self,
        server: "CommandServer",
        call_later: Callable[[float, Callable[[], None]], Timer],
        timeout: float,
    ) -> None:
        self._server = server
        self._call_later = call_later
        self._timeout = timeout
        self.under_way: AbortUnderWay | None = None
        """The Abort that is not over, guarded by the server's lock."""

    def abort(self, job: Job) -> Reply:
        """Carry an Abort out; see `CommandServer.abort`."""
        server = self._server
        job.on_accepted()
        uid = new_command_id(job.name)
        with server._lock:
            abort, first = self.under_way, self.under_way is None
            if abort is None:
                abort = self.under_way = AbortUnderWay(uid)
            else:
                job.joins = abort.uid
            waiting = list(server._waiting)
            server._waiting.clear()
            current = server._current
        server._open(job, job.on_submitted, uid=uid)
        server._report(uid, job, status=TaskStatus.IN_PROGRESS)
        for waiting_uid, waiting_job in waiting:
            server._report(waiting_uid, waiting_job, status=TaskStatus.ABORTED, result=ABORTED)
        goes_on = server._join(abort, uid, job)
        if first and goes_on:
            timer = self._call_later(self._timeout, partial(self._give_up, abort))
            abort.cancel = timer.cancel
            if current is not None:
                current[1].abort()
            server._call_soon(partial(self._carry_on, abort, job))
        return ResultCode.STARTED, uid

    def finish(self) -> None:
        """End the Abort with those that joined it, if it has a result and nothing runs any more."""
        with self._server._lock:
            abort = self.under_way
            if abort is None or abort.result is None or self._server._current is not None:
                return
            self.under_way = None
            abort.end = (TaskStatus.COMPLETED, abort.result)
        if abort.cancel is not None:
            abort.cancel()
        for uid, job in abort.members:
            self._server._report(uid, job, status=TaskStatus.COMPLETED, result=abort.result)

    def _carry_on(self, abort: AbortUnderWay, job: Job) -> None:
        try:
            job.start(partial(self._reported, abort))
        except Exception as error:  # noqa: BLE001 - anybody's code
            _log.exception("%s could not be carried on", job.name)
            self._reported(abort, TaskStatus.COMPLETED, (ResultCode.FAILED, legal_text(error)))

    def _reported(
        self,
        abort: AbortUnderWay,
        status: TaskStatus | None = None,
        result: object = None,
        **_: Any,
    ) -> None:
        if status is None or not is_final(status):
            return  # an abort shows no progress of its own, and its time is bounded
        with self._server._lock:
            abort.take(status, result)
        self.finish()

    def _give_up(self, abort: AbortUnderWay) -> None:
        """End an Abort, and the command that does not end for it: the device is to go on."""
        within = f"within {self._timeout:g} s"
        text = f"did not confirm the abort {within}"
        with self._server._lock:
            current = self._server._current if abort.end is None else None
            if current is not None and self._server._takes_end(current[1]):
                abort.result = (ResultCode.FAILED, f"{current[1].name} {text}, and may go on")
                current[1].given_up = True
            elif abort.result is None:
                abort.result = (ResultCode.FAILED, f"Abort was not carried on {within}")
        if current is not None and current[1].given_up:
            _log.warning("%s %s", current[0], text)
            self._server._end_once(*current, TaskStatus.ABORTED, (ResultCode.ABORTED, text))
        self.finish()
