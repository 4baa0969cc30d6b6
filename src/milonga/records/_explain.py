"""Why a task failed, or what it waits for, by its record.

The cause is the first leaf that failed, of those whose failure reached the task: a failed leaf
below a node that succeeded all the same explains nothing. What was aborted or rejected because of
it came later and is listed as consequence, unless the task itself was aborted: then the abort is
the cause. Where the command that a leaf sent to another device has a record too, the search goes
on there.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from milonga.errors import RecordNotFound
from milonga.records._causes import ReportedNode, explain_node
from milonga.records._reports import Explanation, NodeReport
from milonga.records._task_model import ProcessingTask
from milonga.records._words import situation_of_record

__all__ = ["explain"]

MAX_HOPS = 16
"""Devices through which a cause is followed."""

MAX_FOLLOWED = 64
"""Commands of other devices that are looked at for one explanation."""


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
    _follow(session, node)
    return explain_node(node)


def _follow(session: Session, top: ReportedNode) -> None:
    """Hang what leaves commanded at other devices below them, where that has records here."""
    looked = 0
    trees = deque([(top, 0)])
    while trees:
        tree, hops = trees.popleft()
        for leaf in [*tree.leaves()]:
            asks = leaf.command_id not in {None, leaf.report.uid}
            matters = top.went_well or not leaf.went_well
            if not (asks and matters) or hops == MAX_HOPS or looked == MAX_FOLLOWED:
                continue
            looked += 1
            other = _load(session, str(leaf.command_id))
            if other is not None and leaf.hang_below(other):
                trees.append((other, hops + 1))


def _load(session: Session, task: int | str) -> ReportedNode | None:
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
        *(row.finished_at, row.running_at, row.started_at, row.kind, row.data),
    )
    in_tree = row.id == (root or number), row.root_id == (root or number)
    query = columns.where(or_(*in_tree)).order_by(row.position, row.id)
    return _linked(session.execute(query).all(), number)


def _linked(rows: Iterable[Any], number: int) -> ReportedNode | None:
    owner = next((row.device for row in rows if row.parent_id is None), None)
    nodes = {row.id: ReportedNode(_report(row, owner), row.id, row.command_id) for row in rows}
    children: dict[int | None, list[ReportedNode]] = defaultdict(list)
    for row in rows:
        children[row.parent_id].append(nodes[row.id])
    for key, node in nodes.items():
        node.children = children[key]
    return nodes.get(number)


def _report(row: Any, owner: str | None) -> NodeReport:
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
        kind=row.kind,
        owner=owner,
        facts=row.data if isinstance(row.data, Mapping) else {},
    )
