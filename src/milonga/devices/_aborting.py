"""An Abort, carried on to the children: who is asked, and what each of them answered.

A child is asked to end what this device has started there, by the commands' own ids; commands of
others go on. A subarray below is besides told to Abort where its obsState allows that, because
this is what brings it to ABORTED.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import tango

from milonga.control_model import ObsState, ResultCode, TaskStatus
from milonga.devices._children import ChildLinks
from milonga.devices._tree_job import TreeJob
from milonga.devices._unconfirmed import NOT_LINKED, Unconfirmed
from milonga.lrc import ChildDevice, Job, Reporter
from milonga.lrc import network as process_network
from milonga.tasks import BaseTask, ChildSpec, ExecutionContext, LeafTask, Task, TaskType
from milonga.tracking import (
    AbortAnswer,
    PolicyRules,
    TaskAggregationPolicy,
    summary_of_answers,
)

__all__ = ["Aborts"]

Answer = tuple[str, AbortAnswer, str]
"""Who was asked, the answer, and what was said with it."""

BOUND = 4.2
"""Seconds after which an Abort has an answer of every child, if only that there is none."""

PATIENCE = 3.8
"""Seconds to wait for children that have children of their own."""

CALL_TIMEOUT_MS = 1500
"""Milliseconds that such a child has to answer a question."""

NOTHING_THERE = "nothing of this device runs there"

_HOPELESS = frozenset({ObsState.EMPTY, ObsState.ABORTING, ObsState.ABORTED, ObsState.FAULT})
_ABORTABLE = frozenset(ObsState) - _HOPELESS  # from where Abort leads to ABORTED

_RESULTS = {
    AbortAnswer.NOT_NEEDED: (TaskStatus.COMPLETED, ResultCode.OK),
    AbortAnswer.ACK: (TaskStatus.COMPLETED, ResultCode.OK),
    AbortAnswer.REFUSED: (TaskStatus.REJECTED, ResultCode.REJECTED),
    AbortAnswer.NO_ANSWER: (TaskStatus.FAILED, ResultCode.UNKNOWN),
    AbortAnswer.UNREACHABLE: (TaskStatus.FAILED, ResultCode.FAILED),
}


class Aborts:
    """The Aborts of one device.

    Parameters
    ----------
    specs : sequence of ChildSpec
        The children.
    links : ChildLinks
        The way to them.
    context : ExecutionContext
        What the trees work with.
    """

    def __init__(
        self, specs: Sequence[ChildSpec], links: ChildLinks, context: ExecutionContext
    ) -> None:
        self._specs = specs
        self._links = links
        self._context = context

    def job(
        self, running: Iterable[BaseTask], unconfirmed: Iterable[Unconfirmed]
    ) -> tuple[Job, TreeJob]:
        """Return the job of an Abort, and its tree, neither of which runs if it joins another.

        Parameters
        ----------
        running : iterable of BaseTask
            Trees of the commands that are to end.
        unconfirmed : iterable of Unconfirmed
            Commands at children that were given up before, and may still run.
        """
        around = _Round(
            self._specs, self._links, tuple(running), tuple(unconfirmed), self._context.logger
        )
        tree = TreeJob(around.make, self._context)

        def start(report: Reporter) -> None:
            tree.start(lambda **news: report(**around.told(news)))

        return Job("Abort", start, tree.abort), tree


class _Round:
    """One Abort: a tree with a leaf for each child.

    Parameters
    ----------
    specs : sequence of ChildSpec
        The children.
    links : ChildLinks
        The way to them.
    running : tuple of BaseTask
        Trees of the commands that are to end.
    unconfirmed : tuple of Unconfirmed
        Commands that were given up before.
    logger : logging.Logger, optional
        For the tree.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        links: ChildLinks,
        running: tuple[BaseTask, ...],
        unconfirmed: tuple[Unconfirmed, ...],
        logger: logging.Logger | None = None,
    ) -> None:
        self._specs = specs
        self._questions = [_Question(spec, links, running, unconfirmed) for spec in specs]
        self._logger = logger
        self._leaves: tuple[LeafTask, ...] = ()

    def make(self, completed: Callable[..., None], progressed: Callable[..., None]) -> Task:
        """Return the tree, with nothing started."""
        self._leaves = tuple(
            LeafTask(
                spec.name,
                spec.trl,
                "Abort",
                action=partial(self._begin, question),
                logger=self._logger,
                operation="Abort",
            )
            for spec, question in zip(self._specs, self._questions, strict=True)
        )
        return Task(
            "Abort",
            TaskType.PARALLEL,
            subtasks=self._leaves,
            is_root=True,
            logger=self._logger,
            timeout=BOUND,
            completed_callback=completed,
            progress_callback=progressed,
            policy_factory=partial(TaskAggregationPolicy, rules=PolicyRules.minimal()),
            operation="Abort",
        )

    @property
    def answers(self) -> list[Answer]:
        """What each child has answered; for one with children of its own, what they have."""
        silent = (AbortAnswer.NO_ANSWER, f"no answer within {BOUND:g} s")
        answers: list[Answer] = []
        for leaf, question in zip(self._leaves, self._questions, strict=True):
            own = (leaf.target, *(leaf.abort_answer or silent))
            answers += [own, *question.below] if not own[1].is_good else question.below or [own]
        return answers

    def told(self, news: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the Abort reports, given what its tree reports."""
        told = dict(news)
        if "result" in told:
            answers = self.answers
            if all(answer.is_good for _, answer, _ in answers):
                del told["result"]  # the server has the words that SKA clients look for
                told["status"] = TaskStatus.COMPLETED
            else:
                told["result"] = (ResultCode.FAILED, summary_of_answers(answers))
        return told

    def _begin(
        self, question: "_Question", context: ExecutionContext, on_update: Callable[..., None]
    ) -> "_Question":
        question.on_update = on_update
        # In a later turn, as an answer may be there at once and the leaf must have its invocation.
        context.runtime.call_soon(partial(question.ask, context))
        return question


class _Question:
    """The question to one child, and the answers that are still to come."""

    command_id: str | None = None

    def __init__(
        self,
        spec: ChildSpec,
        links: ChildLinks,
        running: Sequence[BaseTask],
        unconfirmed: Sequence[Unconfirmed],
    ) -> None:
        self.on_update: Callable[..., None] = _nobody
        self.below: list[Answer] = []
        self._trl = spec.trl
        self._links = links
        self._running = running
        self._unconfirmed = [one for one in unconfirmed if one.target == spec.trl]
        self._lock = threading.Lock()
        self._awaited = 1
        self._answers: list[tuple[AbortAnswer, str]] = []
        self._trees: list[dict[str, Any]] = []

    def ask(self, context: ExecutionContext) -> None:
        """Listen to what is being asked, and ask what has to be; returns at once."""
        device = self._links.device(self._trl)
        leaves = [
            leaf
            for task in self._running
            for leaf in task.leaves()
            if leaf.target == self._trl and leaf.was_asked_to_end
        ]
        self._awaited = len(leaves) + len(self._unconfirmed) + 1
        for leaf in leaves:
            leaf.tell_abort_answer(self._answered)
        for one in self._unconfirmed:
            one.ask(device, self._answered, context.runtime.call_later, context.abort_timeout)
        if device is not None and (device.has_children or device.offers("obsState")):
            asked = process_network().run_abort(partial(self._ask_below, device, leaves))
            if asked is not None:
                return
        self._answered(*_idle(device, [*leaves, *self._unconfirmed]))

    def abort(self) -> None:
        """Do nothing: an abort is not aborted."""

    def close(self) -> None:
        """Do nothing: what comes too late is of no consequence."""

    def details(self) -> dict[str, Any]:
        """Return the trees of what was aborted at a child with children of its own."""
        return {"children": self._trees} if self._trees else {}

    def _ask_below(self, device: ChildDevice, leaves: Sequence[LeafTask]) -> None:
        """Abort a child that has children or an obsState, and ask it what they answered."""
        end = time.monotonic() + PATIENCE
        asked = [leaf.command_id for leaf in leaves]
        answer, text, aborted = self._abort_subarray(device, asked, end)
        for leaf in leaves:
            leaf.wait(max(0.0, end - time.monotonic()))
        ids = [leaf.command_id for leaf in leaves]
        if device.has_children:
            for command_id in filter(None, [*ids, aborted]):
                self._look_below(device, command_id)
        self._answered(answer, text)

    def _abort_subarray(
        self, device: ChildDevice, asked: Collection[str | None], end: float
    ) -> tuple[AbortAnswer, str, str | None]:
        """Send Abort where it leads to ABORTED; return the answer, and the id of the Abort."""
        why_not = ""
        try:
            why_not = _needs_no_abort(device, asked)
        except (tango.DevFailed, TypeError, ValueError, KeyError):
            connected = device.is_connected
            answer = AbortAnswer.NO_ANSWER if connected else AbortAnswer.UNREACHABLE
            return answer, device.reason or "it could not be read what it does", None
        if why_not:
            return AbortAnswer.NOT_NEEDED, why_not, None
        invocation = device.start("Abort")
        outcome = invocation.wait(max(0.0, end - time.monotonic()))
        invocation.close()
        if outcome is None:
            return AbortAnswer.NO_ANSWER, "Abort was not over in time", invocation.command_id
        if invocation.command_id is None:
            refused = outcome.status is TaskStatus.REJECTED
            answer = AbortAnswer.REFUSED if refused else AbortAnswer.UNREACHABLE
            return answer, outcome.message, None
        return AbortAnswer.ACK, outcome.message, invocation.command_id

    def _look_below(self, device: ChildDevice, command_id: str) -> None:
        try:
            tree = json.loads(_proxy(device).command_inout("CommandTree", command_id))
        except (tango.DevFailed, ValueError):
            return
        if tree:
            self._trees.append(tree)
            self.below = _joined([*self.below, *_answers_in(tree)])

    def _answered(self, answer: AbortAnswer, text: str) -> None:
        """Take an answer; with the last of them the child's leaf ends."""
        with self._lock:
            self._answers.append((answer, text))
            if len(self._answers) < self._awaited:
                return
            answers = list(self._answers)
        worst = AbortAnswer.worst_of([answer for answer, _ in answers])
        text = "; ".join(dict.fromkeys(text for kind, text in answers if kind is worst and text))
        status, code = _RESULTS[worst]
        if not all(answer.is_good for _, answer, _ in self.below):
            code = ResultCode.FAILED if worst.is_good else code
            text = summary_of_answers(self.below)
        self.on_update(
            status=status,
            result=(code, f"{worst}: {text}" if text else str(worst)),
            abort_ack=str(worst),
            abort_text=text,
        )


def _nobody(**_: object) -> None:
    """Take the place of who listens, until there is one."""


def _idle(device: ChildDevice | None, asked: Sequence[object]) -> tuple[AbortAnswer, str]:
    """Return the answer of a child of which nothing has to be asked besides."""
    if device is None:
        return AbortAnswer.NOT_NEEDED, NOT_LINKED
    if not asked and not device.is_connected:
        return AbortAnswer.UNREACHABLE, device.reason
    return AbortAnswer.NOT_NEEDED, NOTHING_THERE


def _needs_no_abort(device: ChildDevice, asked: Collection[str | None]) -> str:
    """Return why a child with children or an obsState is not told to Abort; empty if it is.

    It is if it has given something up of commands before, which no id of a command ends any more.
    """
    names = [name for name in ("lrcStatistics", "obsState") if device.offers(name)]
    values = {}
    if names:
        read = _proxy(device).read_attributes(names)
        values = {name: value.value for name, value in zip(names, read, strict=True)}
    given_up = json.loads(values.get("lrcStatistics") or "{}").get("unconfirmed", ())
    if any(entry["task"] not in asked for entry in given_up):
        return ""
    if "obsState" not in values:
        return NOTHING_THERE
    state = ObsState(int(values["obsState"]))
    return "" if state in _ABORTABLE else f"obsState is {state.name}"


def _proxy(device: ChildDevice) -> tango.DeviceProxy:
    proxy = tango.DeviceProxy(device.trl)
    proxy.set_timeout_millis(CALL_TIMEOUT_MS)
    return proxy


def _answers_in(tree: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the answers in a snapshot, of those that have nobody below them that answered."""
    below = [answer for child in tree.get("children", ()) for answer in _answers_in(child)]
    yield from below
    if "abort" in tree and not below:
        yield str(tree["target"]), AbortAnswer(tree["abort"]), str(tree.get("abort_text", ""))


def _joined(answers: Iterable[Answer]) -> list[Answer]:
    """Return one answer of each, the worst."""
    joined: dict[str, Answer] = {}
    for name, answer, text in answers:
        known = joined.get(name)
        if known is None or AbortAnswer.worst_of([known[1], answer]) is not known[1]:
            joined[name] = (name, answer, text)
    return list(joined.values())
