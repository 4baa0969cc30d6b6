"""The search for the leaf that explains how a task ended, in a tree of reports.

Nothing here knows where the reports come from: records, or what a device remembers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from milonga.records._reports import Explanation, NodeReport, fit, fit_names
from milonga.records._words import Situation

__all__ = ["ReportedNode", "explain_node"]

_WELL = {Situation.DONE, Situation.STOPPED}
_SUFFERED = {Situation.ABORTED, Situation.REJECTED, Situation.NOT_ALLOWED}


@dataclass(eq=False, slots=True)
class ReportedNode:
    """A node of a tree, among its relatives.

    Parameters
    ----------
    report : NodeReport
        What is known of it.
    order : int
        Its place among all nodes, as they were made.
    command_id : str, optional
        The command of another device that it stands for.
    children : list of ReportedNode, optional
        The nodes below.
    """

    report: NodeReport
    order: int
    command_id: str | None = None
    children: list["ReportedNode"] = field(default_factory=list)

    @property
    def went_well(self) -> bool:
        """Whether there is nothing to explain."""
        return self.report.situation in _WELL

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return not self.report.situation.is_final

    def leaves(self) -> Iterator["ReportedNode"]:
        """Yield the lowest nodes, in the order of the tree."""
        stack = [self]
        while stack:
            node = stack.pop()
            if not node.children:
                yield node
            stack += reversed(node.children)

    def hang_below(self, other: "ReportedNode") -> bool:
        """Take the command that another device made of this one as what is below.

        Returns
        -------
        bool
            Whether it was taken: not if it tells nothing of why this node is as it is, as one that
            was only aborted because this node's time was up.
        """
        aborted = Situation.ABORTED
        tells = other.is_open is self.is_open and other.went_well is self.went_well
        if other.report.situation is aborted and self.report.situation is not aborted:
            tells = False
        if tells:
            self.children = [other]
        return tells


def explain_node(node: ReportedNode) -> Explanation:
    """Say why a task failed, or what it waits for.

    Parameters
    ----------
    node : ReportedNode
        The task, with all that is known of what is below it.
    """
    report = node.report
    remarkable = [leaf.report for leaf in node.leaves() if leaf.report.remarks()]
    if node.is_open:
        waits_for = [leaf.report for leaf in node.leaves() if leaf.is_open]
        line = _waiting_line(report, waits_for)
        return Explanation(report, line, waits_for=waits_for, remarkable=remarkable)
    if node.went_well:
        return Explanation(report, _good_line(report, remarkable), remarkable=remarkable)
    return _explain_failure(node, remarkable)


def _explain_failure(node: ReportedNode, remarkable: list[NodeReport]) -> Explanation:
    path = _way_to_cause(node)
    culprit = path[-1]
    unhappy = [leaf for leaf in node.leaves() if not leaf.went_well and leaf is not culprit]
    ended = [leaf.report for leaf in unhappy if not leaf.is_open]
    stopped = [leaf for leaf in ended if leaf.situation in _SUFFERED]
    return Explanation(
        node.report,
        _aborted_line(node.report, stopped) if culprit is node else _failure_line(path),
        cause=culprit.report,
        made_fail=[one.report for one in reversed(path[:-1])],
        stopped=stopped,
        also_failed=[leaf for leaf in ended if leaf.situation not in _SUFFERED],
        waits_for=[leaf.report for leaf in unhappy if leaf.is_open],
        remarkable=remarkable,
    )


def _way_to_cause(node: ReportedNode) -> list[ReportedNode]:
    """Return the nodes from the task down to the leaf that explains it."""
    if node.report.situation is Situation.ABORTED:
        return [node]
    paths = list(_unhappy_paths(node))
    return min(paths, key=lambda path: _rank(path[-1])) if paths else [node]


def _unhappy_paths(node: ReportedNode) -> Iterator[list[ReportedNode]]:
    """Yield the ways down through nodes that ended badly, to the last ones that did."""
    stack = [[node]]
    while stack:
        path = stack.pop()
        below = [child for child in path[-1].children if not (child.went_well or child.is_open)]
        if not below and len(path) > 1:
            yield path
        stack += [[*path, child] for child in reversed(below)]


def _rank(leaf: ReportedNode) -> tuple[bool, bool, float, int]:
    """Order leaves by how well they explain a failure: the first that failed by itself."""
    situation = leaf.report.situation
    at = leaf.report.at.timestamp() if leaf.report.at else float("inf")
    return situation is Situation.ABORTED, situation is Situation.PARTIAL, at, leaf.order


# The first line


def _good_line(task: NodeReport, remarkable: Sequence[NodeReport]) -> str:
    found = [leaf.short for leaf in remarkable if leaf.misses_end]
    if not found:
        return fit(f"{task.call} ", task.said())
    return fit_names(f"{task.call} {task.how}; no event told of the end of {len(found)}: ", found)


def _waiting_line(task: NodeReport, waits_for: Sequence[NodeReport]) -> str:
    others = [report for report in waits_for if report is not task]
    if not others:
        return fit(f"{task.call} ", task.said())
    return fit_names(f"{task.call} waits for {len(others)}: ", [one.call for one in others])


def _aborted_line(task: NodeReport, stopped: Sequence[NodeReport]) -> str:
    """Say who aborted a task, and what that stopped; or only what it says itself."""
    if task.situation is not Situation.ABORTED or not stopped:
        return fit(f"{task.call} ", task.said())
    return fit_names(
        f"{task.call} {task.how}, stopped {len(stopped)}: ",
        [leaf.short + (leaf.disobeyed and f" ({leaf.disobeyed})") for leaf in stopped],
    )


def _failure_line(path: Sequence[ReportedNode]) -> str:
    task, cause = path[0].report, path[-1].report
    reason = _own_reason(path)
    words = f"{task.how}, {reason}" if reason else task.how
    return fit(f"{task.command or task.name} {words}: {cause.call} ", cause.said())


def _own_reason(path: Sequence[ReportedNode]) -> str:
    """Return why a group failed, if that is not what one below it says: too few that succeeded."""
    for node in reversed(path[:-1]):
        reason = _first_cause(node.report)
        told = [below.report.message for below in _below(node)]
        if reason and not any(text in reason or reason in text for text in told if text):
            return reason
    return ""


def _first_cause(report: NodeReport) -> str:
    lines = report.message.splitlines()
    headline = 2 if report.kind == "command" else 0  # "Task On failed", "Causes:"
    return lines[headline].removeprefix("- ") if len(lines) > headline else ""


def _below(node: ReportedNode) -> Iterator[ReportedNode]:
    for child in node.children:
        yield child
        yield from _below(child)
