"""Why a command failed, by the tree that a device remembers: for devices without records."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.records._causes import ReportedNode, explain_node
from milonga.records._reports import Explanation, NodeReport
from milonga.records._words import Situation, situation_of

__all__ = ["explain_tree"]

Snapshot = Mapping[str, Any]


def explain_tree(tree: Snapshot, device: str) -> Explanation:
    """Say why a command failed, or what it waits for, in the words of `explain`.

    Parameters
    ----------
    tree : mapping
        The command's tree, as `milonga.tasks.BaseTask.snapshot` gives it; below a leaf may be what
        its target did.
    device : str
        Name of the device.
    """
    numbers = itertools.count()
    command = str(tree.get("command") or tree.get("name", ""))
    report = _report(tree, device, device=device, command=command, kind="command")
    return explain_node(ReportedNode(report, next(numbers), None, _below(tree, device, numbers)))


def _below(tree: Snapshot, owner: str, numbers: Iterator[int]) -> list[ReportedNode]:
    return [_node(child, owner, numbers) for child in tree.get("children") or ()]


def _node(tree: Snapshot, owner: str, numbers: Iterator[int]) -> ReportedNode:
    report = _report(tree, owner)
    node = ReportedNode(report, next(numbers), tree.get("command_id"))
    if report.kind != "device":
        node.children = _below(tree, owner, numbers)
        return node
    other = ReportedNode(report, node.order, None, _below(tree, report.device or owner, numbers))
    unhappy = {leaf.report.situation for leaf in other.leaves() if not leaf.went_well}
    if unhappy == {Situation.ABORTED}:  # the command itself is not in the tree, but was as these
        other.report = replace(report, situation=Situation.ABORTED)
    if node.hang_below(other):
        node.children = other.children
    return node


def _report(tree: Snapshot, owner: str, **known: Any) -> NodeReport:
    target = tree.get("target")
    fields: dict[str, Any] = {
        "uid": str(tree.get("command_id") or ""),
        "name": str(tree.get("name", "")),
        "device": _device(target),
        "command": tree.get("command"),
        "argument": "",
        "situation": _situation(tree),
        "message": str(tree.get("message") or ""),
        "error": "",
        "at": _moment(tree.get("finished")) or _moment(tree.get("started")),
        "kind": str(tree.get("type", "")),
        "owner": owner,
        "facts": tree,
    }
    return NodeReport(**(fields | known))


def _device(target: object) -> str | None:
    """Return the name of a target without the address of its database."""
    return "/".join(str(target).split("/")[-3:]) if target else None


def _situation(tree: Snapshot) -> Situation:
    status = TaskStatus.__members__.get(str(tree.get("status")), TaskStatus.NOT_FOUND)
    code = ResultCode.__members__.get(str(tree.get("result_code")), ResultCode.UNKNOWN)
    cause = str(tree.get("cause"))
    if cause in Situation.__members__:
        return Situation[cause]
    health = HealthState.DEGRADED if tree.get("partial") else None
    return situation_of(status, code, health, str(tree.get("message") or ""))


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None
