"""Why a task failed, or what it waits for.

The cause is the first leaf that failed, of those whose failure reached the task: a failed leaf
below a node that succeeded all the same explains nothing. What was aborted or rejected because of
it came later and is listed as consequence, unless the task itself was aborted: then the abort is
the cause. Where the command that a leaf sent to another device has a record too, the search goes
on there.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from milonga.errors import RecordNotFound
from milonga.records._task_model import ProcessingTask
from milonga.records._words import Situation, situation_of_record

__all__ = ["MAX_FIRST_LINE", "Explanation", "NodeReport", "explain"]

MAX_FIRST_LINE = 120
"""Characters of the first line."""

MAX_HOPS = 16
"""Devices through which a cause is followed."""

MAX_LISTED = 20
"""Nodes in each list of the text; JSON has all."""

_SAID = {
    Situation.ACCEPTED: "waits to begin",
    Situation.RUNNING: "is running",
    Situation.PAUSED: "is paused",
    Situation.DONE: "succeeded",
    Situation.STOPPED: "was stopped",
    Situation.PARTIAL: "succeeded in part",
    Situation.FAILED: "failed",
    Situation.ERROR: "broke down",
    Situation.REJECTED: "was rejected",
    Situation.NOT_ALLOWED: "was not allowed",
    Situation.ABORTED: "was aborted",
    Situation.TIMED_OUT: "timed out",
    Situation.LOST: "is lost",
}
_WELL = {Situation.DONE, Situation.STOPPED}
_SUFFERED = {Situation.ABORTED, Situation.REJECTED, Situation.NOT_ALLOWED}


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node of a tree, as far as an explanation needs it.

    Parameters
    ----------
    uid, name, device, command, argument : str
        The call.
    situation : Situation
        How it stands.
    message, error : str
        What it said, and the trace.
    at : datetime or None
        When it ended or, if it goes on, when it began.
    """

    uid: str
    name: str
    device: str | None
    command: str | None
    argument: str
    situation: Situation
    message: str
    error: str
    at: datetime | None

    @property
    def call(self) -> str:
        """Whom it commands, with what."""
        return " ".join(part for part in (self.device, self.command) if part) or self.name

    def said(self) -> str:
        """Return how it stands, in a few words and its own."""
        first = self.message.strip().partition("\n")[0]
        words = _SAID[self.situation]
        if first.startswith(words):  # "timed out after 5 s" says it already
            return first
        return f"{words}: {first}" if first else words

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "uid": self.uid,
            "name": self.name,
            "device": self.device,
            "command": self.command,
            "argument": self.argument,
            "situation": self.situation.name,
            "message": self.message,
            "error": self.error,
            "at": self.at.isoformat() if self.at else None,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is as it is.

    Parameters
    ----------
    task : NodeReport
        The task.
    first_line : str
        The answer, in at most `MAX_FIRST_LINE` characters.
    cause : NodeReport or None
        The first leaf that failed; None if the task did not fail.
    made_fail : list of NodeReport
        The nodes above the cause that failed with it.
    stopped : list of NodeReport
        The leaves that were aborted or not begun because of it.
    also_failed : list of NodeReport
        Leaves that failed for themselves.
    waits_for : list of NodeReport
        The leaves that a task that goes on is waiting for.
    """

    task: NodeReport
    first_line: str
    cause: NodeReport | None = None
    made_fail: list[NodeReport] = field(default_factory=list)
    stopped: list[NodeReport] = field(default_factory=list)
    also_failed: list[NodeReport] = field(default_factory=list)
    waits_for: list[NodeReport] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the explanation as text, `first_line` first."""
        lines = [self.first_line]
        if self.cause is not None:
            when = f" at {self.cause.at:%Y-%m-%d %H:%M:%S.%f} UTC" if self.cause.at else ""
            lines.append(f"cause: {self.cause.call}{when} [{self.cause.uid}]")
            if self.cause.argument:
                lines.append(f"argument: {self.cause.argument}")
            error = self.cause.error or self.cause.message
            lines += [f"error: {line}" for line in error.splitlines()[:MAX_LISTED]]
        lines += _listed("made fail", self.made_fail)
        lines += _listed("stopped", self.stopped)
        lines += _listed("failed as well", self.also_failed)
        lines += _listed("waits for", self.waits_for)
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "text": "\n".join(self.lines()),
            "firstLine": self.first_line,
            "task": self.task.as_json(),
            "cause": self.cause.as_json() if self.cause else None,
            "madeFail": [node.as_json() for node in self.made_fail],
            "stopped": [node.as_json() for node in self.stopped],
            "alsoFailed": [node.as_json() for node in self.also_failed],
            "waitsFor": [node.as_json() for node in self.waits_for],
        }


def _listed(title: str, nodes: Sequence[NodeReport]) -> Iterator[str]:
    for node in nodes[:MAX_LISTED]:
        yield f"{title}: {node.call} {node.said()}"
    if len(nodes) > MAX_LISTED:
        yield f"{title}: and {len(nodes) - MAX_LISTED} more"


@dataclass(eq=False, slots=True)
class _Node:
    """A row of a tree, among its relatives."""

    id: int
    parent_id: int | None
    command_id: str | None
    report: NodeReport
    children: list["_Node"] = field(default_factory=list)

    @property
    def went_well(self) -> bool:
        return self.report.situation in _WELL

    @property
    def is_open(self) -> bool:
        return not self.report.situation.is_final

    def leaves(self) -> Iterator["_Node"]:
        stack = [self]
        while stack:
            node = stack.pop()
            if not node.children:
                yield node
            stack += reversed(node.children)


def explain(session: Session, task: int | str) -> Explanation:
    """Say why a task failed, or what it waits for.

    Parameters
    ----------
    session : Session
        Where to look.
    task : int or str
        Number or unique name of the task.

    Raises
    ------
    RecordNotFound
        If there is no such task.
    """
    node = _load(session, task)
    if node is None:
        raise RecordNotFound(f"explain: found no record of {task!r}")
    if node.is_open:
        waits_for = [leaf.report for leaf in node.leaves() if leaf.is_open]
        return Explanation(node.report, _waiting_line(node, waits_for), waits_for=waits_for)
    if node.went_well:
        return Explanation(node.report, _fit(f"{node.report.call} ", node.report.said()))
    return _explain_failure(session, node, hops=MAX_HOPS)


def _explain_failure(session: Session, node: _Node, hops: int) -> Explanation:
    path = _way_to_cause(node)
    culprit = path[-1]
    unhappy = [leaf for leaf in node.leaves() if not leaf.went_well and leaf is not culprit]
    ended = [leaf for leaf in unhappy if not leaf.is_open]
    cause, further = culprit.report, _beyond(session, culprit, hops)
    made_fail = [one.report for one in reversed(path[:-1])]
    if further is not None and further.cause is not None:
        made_fail = [*further.made_fail, cause, *made_fail]
        cause = further.cause
    return Explanation(
        node.report,
        _failure_line(node.report, cause),
        cause=cause,
        made_fail=made_fail,
        stopped=[leaf.report for leaf in ended if leaf.report.situation in _SUFFERED],
        also_failed=[leaf.report for leaf in ended if leaf.report.situation not in _SUFFERED],
        waits_for=[leaf.report for leaf in unhappy if leaf.is_open],
    )


def _way_to_cause(node: _Node) -> list[_Node]:
    """Return the nodes from the task down to the leaf that explains it."""
    if node.report.situation is Situation.ABORTED:
        return [node]
    paths = list(_unhappy_paths(node))
    return min(paths, key=lambda path: _rank(path[-1])) if paths else [node]


def _unhappy_paths(node: _Node) -> Iterator[list[_Node]]:
    """Yield the ways down through nodes that ended badly, to the last ones that did."""
    stack = [[node]]
    while stack:
        path = stack.pop()
        below = [child for child in path[-1].children if not (child.went_well or child.is_open)]
        if not below and len(path) > 1:
            yield path
        stack += [[*path, child] for child in reversed(below)]


def _rank(leaf: _Node) -> tuple[bool, bool, float, int]:
    """Order leaves by how well they explain a failure: the first that failed by itself."""
    situation = leaf.report.situation
    at = leaf.report.at.timestamp() if leaf.report.at else float("inf")
    return situation is Situation.ABORTED, situation is Situation.PARTIAL, at, leaf.id


def _beyond(session: Session, leaf: _Node, hops: int) -> Explanation | None:
    """Follow the command that a leaf sent to another device, if that has a record here."""
    if leaf.command_id is None or leaf.command_id == leaf.report.uid or hops == 0:
        return None
    node = _load(session, leaf.command_id)
    if node is None or node.is_open or node.went_well:
        return None
    return _explain_failure(session, node, hops - 1)


# The tree


def _load(session: Session, task: int | str) -> _Node | None:
    """Return the node of a task, with all below it."""
    row = ProcessingTask
    by = row.id if isinstance(task, int) else row.uid
    found = session.execute(select(row.id, row.root_id).where(by == task)).one_or_none()
    if found is None:
        return None
    number, root = found
    columns = select(
        *(row.id, row.parent_id, row.command_id, row.uid, row.task_name, row.device, row.command),
        *(row.parameters, row.message, row.error, row.phase, row.task_status, row.cause),
        *(row.finished_at, row.running_at, row.started_at),
    )
    in_tree = row.id == (root or number), row.root_id == (root or number)
    query = columns.where(or_(*in_tree)).order_by(row.position, row.id)
    return _linked(session.execute(query), number)


def _linked(rows: Iterable[Any], number: int) -> _Node | None:
    nodes = {row.id: _Node(row.id, row.parent_id, row.command_id, _report(row)) for row in rows}
    children: dict[int | None, list[_Node]] = defaultdict(list)
    for node in nodes.values():
        children[node.parent_id].append(node)
    for node in nodes.values():
        node.children = children[node.id]
    return nodes.get(number)


def _report(row: Any) -> NodeReport:
    phase = "FINISHED" if row.finished_at else row.phase
    return NodeReport(
        uid=row.uid,
        name=row.task_name,
        device=row.device,
        command=row.command,
        argument=row.parameters,
        situation=situation_of_record(phase, row.task_status, row.cause),
        message=row.message,
        error=row.error,
        at=row.finished_at or row.running_at or row.started_at,
    )


# The first line


def _waiting_line(node: _Node, waits_for: Sequence[NodeReport]) -> str:
    others = [report for report in waits_for if report is not node.report]
    if not others:
        return _fit(f"{node.report.call} ", node.report.said())
    names = ", ".join(report.call for report in others)
    return _fit(f"{node.report.call} waits for {len(others)}: ", names)


def _failure_line(task: NodeReport, cause: NodeReport) -> str:
    if cause is task:
        return _fit(f"{task.call} ", task.said())
    name = task.command or task.name
    return _fit(f"{name} {_SAID[task.situation]}: {cause.call} ", cause.said())


def _fit(lead: str, rest: str) -> str:
    """Join two texts to one line of at most `MAX_FIRST_LINE` characters.

    The names in the lead are cut in their middle, and leave at least half of the line to the rest.
    """
    lead, rest = lead.replace("\n", " "), rest.replace("\n", " ")
    room = max(MAX_FIRST_LINE - len(rest), MAX_FIRST_LINE // 2)
    if len(lead) > room:
        half = (room - 1) // 2
        lead = f"{lead[:half]}…{lead[len(lead) - (room - 1 - half) :]}"
    line = lead + rest
    return line if len(line) <= MAX_FIRST_LINE else f"{line[: MAX_FIRST_LINE - 1]}…"
