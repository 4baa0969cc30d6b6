"""What a running plan does, written down while it does it: its runs, and commands to children.

A command to a child is written before it is sent (behaviours IN-01), as a node below the plan's.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.records import Durability, NewTask, Situation, node_uid, situation_of
from milonga.tasks import ChildSpec
from milonga.tracking import parse_result

__all__ = ["BookRecorder", "PlanBook"]

PATIENCE = 1.0
"""Seconds that a command waits for a slow store before it is sent."""

CALLS_RECORDED = 10_000
"""How many commands of one plan are written down."""

NOT_AWAITED = "the plan has not waited for its end"

OnUpdate = Callable[..., None]


class BookRecorder(Protocol):
    """Takes what happens; a `Recorder`."""

    def open(self, task: NewTask, *, patience: float | None = None) -> Future[Durability]:
        """Note a task that is about to begin."""

    def change(
        self,
        uid: str,
        *,
        situation: Situation | None = None,
        again: bool = False,
        command_id: str | None = None,
    ) -> None:
        """Note how it stands."""

    def finish(
        self,
        uid: str,
        situation: Situation,
        message: str = "",
        *,
        result_code: ResultCode,
        data: Any = None,
    ) -> object:
        """Note how it has ended."""

    def note(self, uid: str, data: Any) -> None:
        """Note what has become known since."""

    def add_run(self, uid: str, run_uid: str) -> None:
        """Note a run."""


class Invocation(Protocol):
    """A command on its way at a child."""

    @property
    def command_id(self) -> str | None:
        """The child's id of the command."""

    def abort(self) -> None:
        """Ask the child to end it."""

    def close(self) -> None:
        """Stop listening."""


class PlanBook:
    """Keeps the record of one plan. Safe across threads.

    Parameters
    ----------
    recorder : BookRecorder
        Takes what happens.
    uid : callable
        Returns the unique name of the plan's node.
    command : callable
        Returns the id of the command that runs the plan.
    call_soon : callable
        Runs a function on the thread that starts and ends commands.
    """

    def __init__(
        self,
        recorder: BookRecorder,
        uid: Callable[[], str],
        command: Callable[[], str],
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._recorder = recorder
        self._uid = uid
        self._command = command
        self._call_soon = call_soon
        self._numbers = itertools.count()

    @property
    def command_id(self) -> str:
        """The command that the plan is part of."""
        return self._uid().partition("/")[0]

    def run_opened(self, run_uid: str) -> None:
        """Note that the plan has begun a run."""
        self._recorder.add_run(self._uid(), run_uid)

    def paused(self) -> None:
        """Note that the plan is paused (IN-05), and with it its command."""
        for uid in (self._uid(), self._command()):
            self._recorder.change(uid, situation=Situation.PAUSED)

    def resumed(self) -> None:
        """Note that the plan goes on, or is being ended."""
        for uid in (self._uid(), self._command()):
            self._recorder.change(uid, situation=Situation.RUNNING, again=True)

    def send(
        self,
        child: ChildSpec,
        command: str,
        argument: str | None,
        on_update: OnUpdate,
        invoke: Callable[[OnUpdate], Invocation],
    ) -> Invocation:
        """Write a command down, then send it; return at once.

        Parameters
        ----------
        child, command, argument : ChildSpec, str
            The command.
        on_update : callable
            Takes what the child says.
        invoke : callable
            Sends it, given what takes what the child says.
        """
        number = next(self._numbers)
        if number >= CALLS_RECORDED:
            return invoke(on_update)
        above = self._uid()
        task = NewTask(
            uid=node_uid(above, f"{child.name}.{command}.{number}"),
            task_name=child.name,
            parent_uid=above,
            device=child.trl,
            command=command,
            parameters=argument or "",
            kind="device",
            position=number,
        )
        written = self._recorder.open(task, patience=PATIENCE)
        sent = _Sent(self._recorder, task.uid, on_update, invoke)
        written.add_done_callback(lambda _: self._call_soon(sent.begin))
        return sent


class _Sent:
    """A command that is sent once it is written down."""

    def __init__(
        self,
        recorder: BookRecorder,
        uid: str,
        on_update: OnUpdate,
        invoke: Callable[[OnUpdate], Invocation],
    ) -> None:
        self._recorder = recorder
        self._uid = uid
        self._on_update = on_update
        self._invoke = invoke
        self._lock = threading.Lock()
        self._inner: Invocation | None = None
        self._over = False
        self._aborted = False
        self._closed = False
        self._status: TaskStatus | None = None
        self._answer: dict[str, str] = {}

    @property
    def command_id(self) -> str | None:
        """The child's id of the command; None while it is not known."""
        inner = self._inner
        return inner.command_id if inner is not None else None

    def begin(self) -> None:
        """Send it; on the device's thread."""
        if any(self._wishes()):
            return
        self._recorder.change(self._uid, situation=Situation.RUNNING)
        inner = self._invoke(self._updated)
        with self._lock:
            self._inner = inner
        aborted, closed = self._wishes()
        if aborted:
            inner.abort()
        if closed:
            inner.close()

    def abort(self) -> None:
        """Ask the child to end it, or do not send it at all."""
        with self._lock:
            inner, before = self._inner, self._aborted
            self._aborted = True
        if inner is not None:
            inner.abort()
        elif not before:
            text = "aborted before it was sent"
            self._updated(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, text))

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            inner, self._closed = self._inner, True
            aborted, status = self._aborted, self._status
        if inner is not None:
            inner.close()
        if status is not None:
            self._finish(status, None)
        elif aborted:
            self._end(Situation.ABORTED, NOT_AWAITED, ResultCode.ABORTED)
        else:
            self._end(Situation.LOST, NOT_AWAITED, ResultCode.UNKNOWN)

    def _wishes(self) -> tuple[bool, bool]:
        with self._lock:
            return self._aborted, self._closed

    def _updated(self, **update: Any) -> None:
        if "abort_ack" in update:
            self._answered(str(update["abort_ack"]), str(update.get("abort_text", "")))
        command_id, status = update.get("command_id"), update.get("status")
        if command_id is not None:
            self._recorder.change(self._uid, command_id=command_id)
        if isinstance(status, TaskStatus) and is_final(status):
            self._status = status
        if "result" in update and self._status is not None:
            self._finish(self._status, update["result"])
        self._on_update(**update)

    def _finish(self, status: TaskStatus, result: object) -> None:
        code, message = parse_result(result, status)
        code = ResultCode.UNKNOWN if code is None else code
        situation = situation_of(status, code, None, message)
        self._end(situation if situation.is_final else Situation.LOST, message, code)

    def _end(self, situation: Situation, message: str, code: ResultCode) -> None:
        with self._lock:
            first, self._over = not self._over, True
        if first:
            self._recorder.finish(
                self._uid, situation, message, result_code=code, data=self._remarks() or None
            )

    def _answered(self, answer: str, text: str) -> None:
        """Take what the child says to an abort, which may come after the end."""
        with self._lock:
            self._answer = {"abort": answer, "abort_text": text}
            over = self._over
        if over:
            self._recorder.note(self._uid, self._remarks())

    def _remarks(self) -> dict[str, Any]:
        """Return what is remarkable, by the names of `milonga.tasks.LeafTask.remarks`."""
        irregular: dict[str, Any] = getattr(self._inner, "irregular", dict)()
        return self._answer | ({"irregular_events": irregular} if irregular else {})
