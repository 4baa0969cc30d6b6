"""How the commands of a device get into the records, node by node.

A command is written down with its whole tree before it starts, each node's course while it runs,
and its end before anybody is told of it (behaviours IN-01, IN-02).
"""

import os
import pwd
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._last_outcomes import bounded
from milonga.devices._leaf_notes import AFTERMATH, LeafNotes
from milonga.lrc import Job, Origin
from milonga.records import (
    Durability,
    NewTask,
    RecordedNode,
    Recorder,
    Situation,
    new_tasks,
    node_uid,
    situation_of,
)
from milonga.tasks import BaseTask, LeafTask, TaskType
from milonga.tracking import parse_result

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["CommandRecord", "CommandRecords", "issuer_of"]

PROGRESS_PERIOD = 1.0
"""Seconds between two notes of the progress of one node."""

PATIENCE = 1.0
"""Seconds that a command waits for a slow store before it starts, and before it ends."""

_NEVER_BEGAN = "ended before it began"
_CUT_OFF = "had not ended when its command did"


class CommandRecords:
    """Writes down the commands of one device.

    Parameters
    ----------
    recorder : Recorder
        Takes what happens.
    device : str
        The device's name.
    call_soon : callable
        Runs a function on the thread that starts and ends commands.
    call_later : callable
        The same after some seconds, which are given first.
    waits : bool, optional
        Whether a command starts, and ends for its clients, only once that is written.
    """

    def __init__(
        self,
        recorder: Recorder,
        device: str,
        call_soon: Callable[[Callable[[], None]], None],
        call_later: Callable[[float, Callable[[], None]], object],
        *,
        waits: bool = True,
    ) -> None:
        self.recorder = recorder
        self.device = device
        self.call_soon = call_soon
        self.waits = waits
        self.call_later = call_later
        self._open: dict[str, CommandRecord] = {}

    def follow(self, job: Job, root: BaseTask | None, argument: str | None) -> "CommandRecord":
        """Have a job written down from its submission on."""
        record = CommandRecord(self, job, root, argument)
        accepted = job.on_submitted

        def submitted(uid: str) -> None:
            self._open[uid] = record
            record.open(uid)
            accepted(uid)

        job.on_submitted = submitted
        job.before_start = record.before_start
        job.before_end = record.before_end
        if root is not None:
            root.observe(record)
        return record

    def abort_asked(self, by: str, uid: str | None = None) -> None:
        """Write down who wants a command to end, or all that an Abort ends."""
        for name, record in list(self._open.items()):
            if name == uid or (uid is None and record.ends_by_abort):
                record.abort_asked(by)

    def ended(self, uid: str) -> None:
        """Forget a command."""
        self._open.pop(uid, None)


class CommandRecord:
    """What is written of one command; an observer of its tree. Safe across threads.

    Parameters
    ----------
    records : CommandRecords
        Of the device.
    job : Job
        The command.
    root : BaseTask or None
        Its tree, if it has one.
    argument : str or None
        Its argument.
    """

    def __init__(
        self, records: CommandRecords, job: Job, root: BaseTask | None, argument: str | None
    ) -> None:
        self._records = records
        self._recorder = records.recorder
        self._job = job
        self._root = root
        self._argument = argument
        self._uid = ""
        self._receipt: Future[Durability] | None = None
        self._payload: Mapping[str, Any] = {}
        self._noted: dict[str, float] = {}
        self._known: Mapping[str, RecordedNode] = {}
        self._facts: dict[str, Any] = {}
        self._notes = LeafNotes()

    def resume(self, known: Mapping[str, RecordedNode], uid: str, data: object) -> None:
        """Go on with a record that is there from before a restart, with what it has of nodes."""
        self._known = known
        self._uid = uid
        self._facts = dict(data) if isinstance(data, Mapping) else {}

    def open(self, uid: str) -> None:
        """Write down the command and all nodes of its tree."""
        if self._uid:
            return
        self._uid = uid
        if self._job.joins:
            self._root = None  # its tree does not run
        origin = self._job.origin or Origin()
        self._facts = _facts(origin) | ({"joins": self._job.joins} if self._job.joins else {})
        of_root: dict[str, Any] = {
            "task_name": self._job.name,
            "device": self._records.device,
            "command": self._job.name,
            "parameters": self._argument or "",
            "kind": "command",
            "issuer": issuer_of(origin),
            "origin": _place(origin),
            "data": dict(self._facts),
        }
        rows = (
            [NewTask(uid=uid, **of_root)]
            if self._root is None
            else [*new_tasks(self._root.snapshot(), uid, **of_root)]
        )
        *first, last = rows
        for row in first:
            self._recorder.open(row)
        if self._records.waits:
            self._receipt = self._recorder.open(last, patience=PATIENCE)
        else:
            self._recorder.open(last)

    # The command as a whole

    @property
    def ends_by_abort(self) -> bool:
        """Whether an Abort ends the command: not an Abort, which it joins, nor a safety command."""
        return self._job.name != "Abort" and not self._job.safety

    def abort_asked(self, by: str) -> None:
        """Write down who wants the command to end; the first counts."""
        if "aborted_by" not in self._facts:
            self._facts["aborted_by"] = by
            self._recorder.change(self._uid, data=dict(self._facts))

    def before_start(self, uid: str, go_on: Callable[[], None]) -> None:
        """Let the command start once it is written down."""
        if self._job.bypass:
            self._facts["bypass"] = self._job.bypass
        self._recorder.change(
            uid,
            situation=Situation.RUNNING,
            deadline_at=_in(self._job.time_limit),
            data=dict(self._facts) if self._job.bypass else None,
        )
        receipt = self._receipt
        if receipt is None or receipt.done():
            go_on()
        else:
            receipt.add_done_callback(lambda _: self._records.call_soon(go_on))

    def before_end(self, status: TaskStatus, result: object, go_on: Callable[[], None]) -> None:
        """Let the command end once its end is written down."""
        judged = _judged(status, result, self._payload)
        if self._job.joins:
            judged = (*judged[:2], f"{judged[2]}; joined {self._job.joins}")
        self._records.ended(self._uid)
        self._note_outcomes()
        self._close_rest(judged[0])
        if not self._records.waits:
            self._finish(self._uid, judged, self._payload)
            go_on()
            return
        self._finish(
            self._uid,
            judged,
            self._payload,
            then=lambda _: self._records.call_soon(go_on),
            patience=PATIENCE,
        )
        if self._root is not None and self._root.has_begun:
            self._records.call_later(AFTERMATH, self._note_what_came_late)

    def _note_outcomes(self) -> None:
        """Write down what became of each child, unless all is well and there is nothing to tell."""
        outcomes, omitted = bounded(self._payload.get("outcomes", ()))
        if all(one["result_code"] == ResultCode.OK.name for one in outcomes):
            return
        self._facts |= {"outcomes": outcomes, "omitted": omitted}
        self._recorder.change(self._uid, data=dict(self._facts))

    def _note_what_came_late(self) -> None:
        """Write down what has become known of leaves since they ended."""
        if self._root is not None:
            for leaf, notes in self._notes.late(self._root):
                self._recorder.note(self._name(leaf), self._data(leaf, notes))

    def _data(self, leaf: LeafTask, notes: dict[str, Any]) -> dict[str, Any]:
        return notes if leaf.path else self._facts | notes

    def _close_rest(self, situation: Situation) -> None:
        """End the nodes that have not: those of a tree that did not run, or was cut off.

        Those below first, so that nothing ends after what is above it.
        """
        ended = Situation.LOST if situation is Situation.LOST else Situation.ABORTED
        if self._root is None:
            for uid in sorted(self._known, reverse=True):
                if not self._known[uid].situation.is_final:
                    self._recorder.finish(uid, ended)
            return
        for node in reversed([*self._root.walk()]):
            if node.path and not node.ended:
                text = _CUT_OFF if node.has_begun else _NEVER_BEGAN
                self._recorder.finish(self._name(node), ended, text)

    # Its nodes

    def node_started(self, node: BaseTask) -> None:
        """Write down that a node has begun, and when it has to be over."""
        deadline = _in(node.time_left)
        if node.path:
            self._recorder.change(
                self._name(node), situation=Situation.RUNNING, deadline_at=deadline
            )
        elif deadline is not None:
            self._recorder.change(self._uid, deadline_at=deadline)

    def node_extended(self, node: BaseTask) -> None:
        """Write down until when a node, and what runs below it, now has to be over."""
        for each in node.walk():
            if each.has_begun and not each.ended:
                self._recorder.change(self._name(each), deadline_at=_in(each.time_left))

    def node_filled(self, leaf: LeafTask) -> None:
        """Write down the argument of a leaf that was not complete before."""
        self._recorder.change(self._name(leaf), parameters=leaf.snapshot()["argument"])

    def node_accepted(self, leaf: LeafTask, command_id: str) -> None:
        """Write down the id that a child gave."""
        self._recorder.change(self._name(leaf), command_id=command_id)

    def node_progressed(self, node: BaseTask, progress: int) -> None:
        """Write down progress, not too often."""
        uid = self._name(node)
        now = time.monotonic()
        if now - self._noted.get(uid, 0.0) >= PROGRESS_PERIOD:
            self._noted[uid] = now
            self._recorder.change(uid, progress=progress)

    def node_stalled(self, leaf: LeafTask, stalled: bool) -> None:
        """Write down that nothing is heard of a leaf's target, or that it is heard of again."""
        data = self._data(leaf, self._notes.stalled(leaf, stalled))
        self._recorder.change(self._name(leaf), data=data)

    def node_ended(self, node: BaseTask, payload: Mapping[str, Any]) -> None:
        """Write down how a node has ended."""
        if not node.path:
            self._payload = payload  # the command's own end comes later
            return
        uid = self._name(node)
        if node.task_type is TaskType.PLAN and isinstance(node, LeafTask):
            for run in node.details.get("run_uids", ()):
                self._recorder.add_run(uid, run)
        known = self._known.get(uid)
        if known is None or not known.situation.is_final:
            judged = _judged(TaskStatus(payload["status"]), payload["result"], payload)
            notes = self._notes.of(node) if isinstance(node, LeafTask) else {}
            self._finish(uid, judged, payload, data=notes or None)

    def _name(self, node: BaseTask) -> str:
        return node_uid(self._uid, *node.path)

    def _finish(self, uid: str, judged: "_Judged", payload: Mapping[str, Any], **more: Any) -> None:
        situation, code, message = judged
        self._recorder.finish(
            uid,
            situation,
            message,
            error="\n".join(map(str, payload.get("error", ()))),
            result_code=code,
            **more,
        )


def _in(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)


_Judged = tuple[Situation, ResultCode, str]


def _judged(status: TaskStatus, result: object, payload: Mapping[str, Any]) -> _Judged:
    """Return what an end is called in the records, with its code and its message."""
    code, message = parse_result(result, status)
    code = ResultCode.UNKNOWN if code is None else code
    situation = situation_of(status, code, payload.get("health_state"), message)
    cause = Situation.__members__.get(str(payload.get("cause")))
    # An Abort is COMPLETED although its tree is not, which tells what its children answered.
    if cause is not None and cause.words.task_status is status:
        situation = cause
    return situation if situation.is_final else Situation.LOST, code, message


def issuer_of(origin: Origin) -> str | None:
    """Return who called, as far as that can be known: the user, of a process on this machine."""
    if origin.host is None:
        return None
    user = _user_of(origin.pid) if _is_here(origin.host) else None
    return f"{user}@{origin.host}" if user else origin.host


def _place(origin: Origin) -> str | None:
    return None if origin.host is None else f"{origin.host} pid {origin.pid}"


def _facts(origin: Origin) -> dict[str, Any]:
    facts: dict[str, Any] = {"server_pid": os.getpid()}
    if origin.transaction_id is not None:
        facts["transaction_id"] = origin.transaction_id
    return facts


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _user_of(pid: int | None) -> str | None:
    try:
        return _user_name(os.stat(f"/proc/{pid}").st_uid)  # noqa: PTH116 - no Path is made for it
    except OSError:
        return None  # ended already, or no such file system


@cache
def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
