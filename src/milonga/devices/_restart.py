"""What a device does about the commands that were under way when its process ended.

Each command is composed anew, and its tree runs; only that its leaves send nothing. A leaf that
had ended replays its outcome, one whose child may still be at work finds the command there and
follows it, and one of which nobody can know anything is lost. So what is joined, judged and told
is what it would have been (behaviours A-17, QE-10).
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.devices._command_records import CommandRecords
from milonga.devices._tree_job import TreeJob
from milonga.errors import MilongaError, RecordsError
from milonga.lrc import (
    FINISHED_KEPT,
    CommandRecord,
    CommandServer,
    Invocation,
    Job,
    Reporter,
    Trace,
    network,
)
from milonga.records import (
    FinishedCommand,
    RecordedNode,
    RecordStore,
    Situation,
    UnfinishedCommand,
    find_finished,
    find_states,
    find_unfinished,
    node_uid,
)
from milonga.tasks import BaseTask, ExecutionContext, LeafAction, LeafTask, NoWork, TaskType

__all__ = ["Restart", "ResumeAt"]

_log = logging.getLogger(__name__)

OnUpdate = Callable[..., None]

LOST_WITH_SERVER = "was under way when the device server ended; how far it came is unknown"
ASKED = "waited for a person when the device server ended, and was not answered"
NOT_BEGUN = "had not begun when the device server was restarted"
MAY_HAVE_BEGUN = "was to begin when the device server ended; whether it had is unknown"


RETRY_FIRST, RETRY_LONGEST = 0.25, 15.0
"""Seconds before a store that cannot be read is tried again: at first, and at most."""

STORE_PATIENCE = 1.0
"""Seconds that a look into the store waits for what is still to be written."""

_WORK = ("queued", "executing", "remembered")


class ResumeAt(Protocol):
    """The way to find a command at a child, see `ChildLinks.resume_at`."""

    def __call__(
        self,
        target: str,
        trace: Trace,
        on_update: OnUpdate,
        *,
        command_id: str | None,
        claim: Callable[[str], bool],
    ) -> Invocation | None:
        """Find it; None if the device has no such child."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store has of the time before the start."""

    finished: Sequence[FinishedCommand]
    unfinished: Sequence[UnfinishedCommand]
    kept: Mapping[str, Any]


class _Replay:
    """What the leaves of a command that is taken up have in common."""

    def __init__(self, command: UnfinishedCommand) -> None:
        self.command = command
        self.went_on = threading.Event()
        """Set once a child has ended its part since the restart."""
        self._taken = {node.command_id for node in command.nodes.values() if node.command_id}

    def node_of(self, leaf: LeafTask) -> RecordedNode | None:
        """Return what is recorded of a leaf."""
        return self.command.nodes.get(node_uid(self.command.uid, *leaf.path))

    def claim(self, command_id: str) -> bool:
        """Take a command found at a child for a leaf; tell whether no other leaf has it."""
        if command_id in self._taken:
            return False
        self._taken.add(command_id)
        return True


class Restart:
    """Takes up what an earlier process of a device had begun.

    Parameters
    ----------
    records : CommandRecords
        Of the device.
    commands : CommandServer
        Its commands, of which none starts until the earlier ones are back.
    make_job : callable
        Composes a command, of this name and argument; raises `MilongaError` if it cannot be.
    resume_at : callable
        Finds a command at a child.
    take_back : callable
        Gets what the device has kept, and whether a command goes on.
    note_kept : callable
        Gets the names of what the device has kept, be it taken back or not.
    patience : float, optional
        Seconds that new commands wait for a store that cannot be read. After it they run, and the
        store is looked into again until it answers.
    """

    def __init__(
        self,
        records: CommandRecords,
        commands: CommandServer,
        make_job: Callable[[str, str | None], Job],
        resume_at: ResumeAt,
        take_back: Callable[..., None],
        note_kept: Callable[[Collection[str]], None],
        *,
        patience: float = 10.0,
    ) -> None:
        self._records = records
        self._device = records.device
        self._commands = commands
        self._make_job = make_job
        self._resume_at = resume_at
        self._take_back = take_back
        self._note_kept = note_kept
        self._patience = patience
        self._waits = False
        self._over = threading.Event()
        self._until = 0.0

    def begin(self, store: RecordStore) -> None:
        """Look into the store on a thread that may wait, and go on from there.

        The commands are to be held before; they are released in the end, or when the store cannot
        be read for long.
        """
        self._waits = True
        self._until = time.monotonic() + self._patience
        self._look(store, RETRY_FIRST)

    def stop(self) -> bool:
        """Look no more; return whether everything had been taken up before."""
        was_over = self._over.is_set()
        self._over.set()
        return was_over

    def _look(self, store: RecordStore, delay: float) -> None:
        if network().run(partial(self._read, store, delay)) is None:
            self._release()

    def _read(self, store: RecordStore, delay: float) -> None:
        if self._over.is_set():
            return
        try:
            found = self._found(store)
        except Exception as error:  # noqa: BLE001 - whatever a database may raise: the device must work
            self._look_again(store, delay, error)
        else:
            self._records.call_soon(partial(self._readmit, found))

    def _found(self, store: RecordStore) -> "_Found":
        # An earlier self of the device in this process may have ended commands: `Init`.
        if not self._records.recorder.flush(STORE_PATIENCE):
            raise RecordsError("records still wait to be written")
        unfinished = find_unfinished(store, self._device)
        finished = find_finished(store, self._device, FINISHED_KEPT)
        with store.reading() as session:
            return _Found(finished, unfinished, find_states(session, self._device))

    def _look_again(self, store: RecordStore, delay: float, error: Exception) -> None:
        if delay == RETRY_FIRST:
            _log.error("%s: cannot tell yet what was before the start: %s", self._device, error)
        if self._waits and time.monotonic() >= self._until:
            _log.error("%s: new commands run before it is known what was", self._device)
            self._release()
        longer = min(2 * delay, RETRY_LONGEST)
        network().call_later(delay, partial(self._look, store, longer))

    def _release(self) -> None:
        self._waits = False
        self._commands.release()

    def _readmit(self, found: "_Found") -> None:
        if self._over.is_set():
            return
        try:
            # Commands that were accepted while the store was read are in it as well.
            unfinished = [one for one in found.unfinished if not self._commands.knows(one.uid)]
            has_run = self._has_run()  # before what had ended is among what is remembered
            self._tried("what had ended", self._restore, found.finished)
            begun = _begun(unfinished)
            jobs = [(one, self._resumed(one, one in begun)) for one in unfinished]
            goes_on = any(job.work is not None for _, job in jobs)
            self._note_kept(found.kept)
            if has_run:
                self._keep_back(found.kept)
            else:
                self._tried("what was kept", self._take_back, found.kept, goes_on=goes_on)
            for command, job in jobs:
                self._tried(command.uid, self._queue, command, job)
        finally:
            self._over.set()
            self._release()

    def _tried(self, what: str, function: Callable[..., None], *values: Any, **named: Any) -> None:
        """Do one thing; what is wrong with it must not keep the others."""
        try:
            function(*values, **named)
        except Exception:  # noqa: BLE001 - the device's own code, with values of an earlier release
            _log.exception("%s: %s cannot be taken up again", self._device, what)

    def _restore(self, finished: Sequence[FinishedCommand]) -> None:
        self._commands.restore([_as_ended(command) for command in finished])

    def _has_run(self) -> bool:
        """Tell whether commands have run since the start: so that what was kept is out of date."""
        figures = self._commands.statistics()
        return not self._waits and any(figures[name] for name in _WORK)

    def _keep_back(self, kept: Mapping[str, Any]) -> None:
        if kept:
            _log.error(
                "%s: commands have run meanwhile, so what was kept before the start is not taken"
                " back: %s",
                *(self._device, ", ".join(kept)),
            )

    def _queue(self, command: UnfinishedCommand, job: Job) -> None:
        try:
            queued = self._commands.readmit(command.uid, job, command.submitted_at.isoformat())
        except Exception as error:
            for uid in (*command.nodes, command.uid):
                text = f"cannot be taken up again: {error}"
                self._records.recorder.finish(uid, Situation.LOST, text)
            raise
        if queued:
            _log.warning("%s: %s is taken up again", self._device, command.uid)

    def _resumed(self, command: UnfinishedCommand, has_begun: bool) -> Job:
        try:
            return self._composed(command, has_begun)
        except Exception as error:  # noqa: BLE001 - the device's own code, with an earlier command
            if not isinstance(error, MilongaError):
                _log.exception("%s: %s cannot be composed again", self._device, command.uid)
            return self._lost(command, f"; it cannot be composed again: {error}")

    def _composed(self, command: UnfinishedCommand, has_begun: bool) -> Job:
        if not has_begun:
            result = (ResultCode.ABORTED, f"{command.command} {NOT_BEGUN}")
            return self._ended(command, TaskStatus.ABORTED, result)
        if command.command == "Abort":
            return self._lost(command, "; call it again")
        job = self._make_job(command.command, command.argument)
        tree = job.work
        if not isinstance(tree, TreeJob) or tree.record is None:
            return self._lost(command, "")
        nodes = [node for node in tree.task.walk() if node.path]
        composed = {node_uid(command.uid, *node.path): node for node in nodes}
        of_plans = self._of_plans(command, composed)
        if composed.keys() != command.nodes.keys() - of_plans:
            return self._lost(command, "; what the command does has changed since")
        replay = _Replay(command)
        for leaf in tree.task.leaves():
            leaf.replace_action(self._action(leaf, replay))
        tree.record.resume(command.nodes, command.uid, command.data)
        return job

    def _of_plans(
        self, command: UnfinishedCommand, composed: Mapping[str, BaseTask]
    ) -> frozenset[str]:
        """Return the nodes that plans have added; those that go on are lost with their plans."""
        plans = [f"{uid}/" for uid, node in composed.items() if node.task_type is TaskType.PLAN]
        found = frozenset(uid for uid in command.nodes if uid.startswith(tuple(plans)))
        for uid in found:
            if not command.nodes[uid].situation.is_final:
                self._records.recorder.finish(uid, Situation.LOST, LOST_WITH_SERVER)
        return found

    def _lost(self, command: UnfinishedCommand, why: str) -> Job:
        result = (ResultCode.UNKNOWN, f"{command.command} {LOST_WITH_SERVER}{why}")
        return self._ended(command, TaskStatus.FAILED, result)

    def _ended(
        self, command: UnfinishedCommand, status: TaskStatus, result: tuple[ResultCode, str]
    ) -> Job:
        def start(report: Reporter) -> None:
            report(status=status, result=result)

        job = Job(command.command, start)
        record = self._records.follow(job, None, command.argument)
        record.resume(command.nodes, command.uid, command.data)
        return job

    def _action(self, leaf: LeafTask, replay: _Replay) -> LeafAction:
        """Return what a leaf does in place of its work."""
        node = replay.node_of(leaf)
        if node is not None and node.situation.is_final:
            status = node.situation.words.task_status
            text = node.message.removeprefix(f"{leaf.target}: ")
            return _tells(status, (node.result_code, text))
        if leaf.task_type is TaskType.DEVICE:
            return self._search(leaf, node, replay)
        if node is not None and node.has_begun and leaf.task_type is TaskType.CONFIRM:
            self._records.recorder.clear_step(node.uid)
            return _tells(TaskStatus.ABORTED, (ResultCode.ABORTED, ASKED))
        if node is not None and node.has_begun:
            return _tells(*_lost_with(LOST_WITH_SERVER))
        if leaf.task_type is TaskType.CONFIRM:
            return _tells(TaskStatus.ABORTED, (ResultCode.ABORTED, NOT_BEGUN))
        return _tells_when_due(replay.went_on)

    def _search(self, leaf: LeafTask, node: RecordedNode | None, replay: _Replay) -> LeafAction:
        command = replay.command
        facts = command.data if isinstance(command.data, dict) else {}
        trace = Trace(leaf.command_name, command.submitted_at, facts.get("server_pid"))

        def action(_context: ExecutionContext, on_update: OnUpdate) -> Any:
            def told(**news: Any) -> None:
                status = news.get("status")
                if status is not None and is_final(status):
                    replay.went_on.set()
                on_update(**news)

            invocation = self._resume_at(
                leaf.target,
                trace,
                told,
                command_id=node.command_id if node is not None else None,
                claim=replay.claim,
            )
            if invocation is None:
                text = "the device has no such child any more"
                on_update(status=TaskStatus.FAILED, result=(ResultCode.UNKNOWN, text))
                return NoWork()
            return invocation

        return action


def _begun(unfinished: Sequence[UnfinishedCommand]) -> list[UnfinishedCommand]:
    """Return the commands that may have begun.

    That a command has begun is on disk only a moment later, so the first of those that are not
    known to have may have as well: one runs at a time, and the end of the one before is on disk.
    """
    begun = [command for command in unfinished if command.has_begun]
    return begun or list(unfinished[:1])


def _as_ended(command: FinishedCommand) -> CommandRecord:
    started = command.started_at
    return CommandRecord(
        uid=command.uid,
        name=command.command,
        submitted_time=command.submitted_at.isoformat(),
        status=command.situation.words.task_status,
        result=(int(command.result_code), command.message),
        started_time=started.isoformat() if started is not None else None,
        finished_time=command.finished_at.isoformat(),
        ended_at=-math.inf,
    )


def _tells(status: TaskStatus, result: tuple[ResultCode, str]) -> LeafAction:
    """Return an action that only tells how the work has ended."""

    def action(_context: ExecutionContext, on_update: OnUpdate) -> NoWork:
        on_update(status=status, result=result)
        return NoWork()

    return action


def _lost_with(text: str) -> tuple[TaskStatus, tuple[ResultCode, str]]:
    words = Situation.LOST.words
    return words.task_status, (words.result_code, text)


def _tells_when_due(went_on: threading.Event) -> LeafAction:
    """Return the action of work in this process, of which no record says that it had begun.

    That it has begun is on disk only a moment later. So if its turn comes before anything else has
    ended since the restart, it may have; otherwise what comes before it was still under way.
    """

    def action(context: ExecutionContext, on_update: OnUpdate) -> Any:
        outcome = (
            (TaskStatus.ABORTED, (ResultCode.ABORTED, NOT_BEGUN))
            if went_on.is_set()
            else _lost_with(MAY_HAVE_BEGUN)
        )
        return _tells(*outcome)(context, on_update)

    return action
