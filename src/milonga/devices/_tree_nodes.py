"""One command's task tree as the nodes of a document, made anew only where something changed.

What hears the tree's changes notes which node they were of, and when; all else is done later, by
who makes the document.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.devices._tree_document import count_outcome, has_ended
from milonga.devices._tree_progress import DurationHistory, share, time_left, weights_of
from milonga.lrc.task_tree import MAX_TREE_DEPTH
from milonga.tasks import BaseTask, LeafTask, TaskType

__all__ = ["FollowedTree", "NodeBelow", "never_run"]

NAME_LENGTH = 128
MESSAGE_LENGTH = 200
WAITS_SHOWN = 5
"""How many of the running steps a command names that it waits for."""

NEVER_BEGAN = "ended before it began"

RUNS_SHOWN = 32
"""How many runs of a plan are named, the last."""

LARGEST = 10**9
"""What a number that a child tells may be at the most."""

_LENGTHS = {"message": MESSAGE_LENGTH, "note": MESSAGE_LENGTH}

Node = dict[str, Any]

NodeBelow = Callable[[str, str, bool], "Node | None"]
"""Returns the node of a command at a device, by resource locator and id, if that one tells.

The third argument says whether it is still awaited.
"""

_NOT_RUN = {
    TaskStatus.COMPLETED: ResultCode.OK,
    TaskStatus.ABORTED: ResultCode.ABORTED,
    TaskStatus.REJECTED: ResultCode.REJECTED,
}


class FollowedTree:
    """A command's tree, followed from before its start.

    The methods of `milonga.tasks.TreeObserver` may be called from any thread, all others from one
    at a time.

    Parameters
    ----------
    uid : str
        The command's id.
    task : BaseTask
        Root of its tree.
    changed : callable
        Called at each change, from any thread; must be quick.
    history : DurationHistory
        How long the command took before.
    now, clock : callable, optional
        Aware time of day, and monotonic time in seconds, by which durations are measured.
    """

    def __init__(
        self,
        uid: str,
        task: BaseTask,
        changed: Callable[[], None],
        history: DurationHistory,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uid = uid
        self._task = task
        self._changed = changed
        self._history = history
        self._now = now
        self._clock = clock
        self._began: dict[BaseTask, float] = {}
        self._took: dict[BaseTask, float] = {}
        self._dirty: set[BaseTask] = set()
        self._started: dict[BaseTask, datetime] = {}
        self._finished: dict[BaseTask, datetime] = {}
        self._fields: dict[BaseTask, Node] = {}
        self._reached: dict[BaseTask, float] = {}
        self._weights: dict[BaseTask, float] = {}
        self._expected: float | None = None
        self._known = False
        self._noted = False
        task.observe(self)

    # From any thread, while the tree runs

    def node_started(self, node: BaseTask) -> None:
        """Note that a node has begun."""
        self._began.setdefault(node, self._clock())
        self._started.setdefault(node, self._now())
        self._touch(node)

    def node_accepted(self, leaf: LeafTask, command_id: str) -> None:  # noqa: ARG002
        """Note that a leaf has a command id."""
        self._touch(leaf)

    def node_progressed(self, node: BaseTask, progress: int) -> None:  # noqa: ARG002
        """Note that a node has come further."""
        self._touch(node)

    def node_said(self, leaf: LeafTask) -> None:
        """Note that the work of a leaf has said something."""
        self._touch(leaf)

    def node_ended(self, node: BaseTask, payload: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Note that a node has ended."""
        began = self._began.get(node)
        if began is not None:
            self._took.setdefault(node, self._clock() - began)
        self._finished.setdefault(node, self._now())
        self._touch(node)

    def _touch(self, node: BaseTask) -> None:
        self._dirty.add(node)
        self._changed()

    # For who makes the document

    @property
    def ended(self) -> bool:
        """Whether the tree has its outcome."""
        return self._task in self._finished

    @property
    def is_running(self) -> bool:
        """Whether the tree has begun and has not ended."""
        return self._task in self._started and not self.ended

    def node(self, below: NodeBelow, status: TaskStatus | None = None) -> Node:
        """Return the command as it stands.

        Parameters
        ----------
        below : callable
            Has the trees of the devices below.
        status : TaskStatus, optional
            The command's own; a final one tells that the tree will not run any more.
        """
        if not self._known:
            self._learn()
        self._describe_what_changed()
        if status is not None and is_final(status) and not self.ended:
            return self._never_run(status)
        waits: list[Node] = []
        root, _ = self._made(self._task, below, waits, 1)
        root["command"] = root["name"]
        root["command_id"] = self.uid
        if self._expected is not None:
            root["expected"] = round(self._expected, 2)
        if self.is_running:
            self._say_what_is_ahead(root, waits)
        return _children_last(root)

    def note_durations(self) -> None:
        """Add how long the tree took to the history, once, if it succeeded."""
        if self._noted or not self.ended:
            return
        self._noted = True
        if self._task.tracker.outcome.result_code is not ResultCode.OK:
            return
        for node, seconds in list(self._took.items()):
            self._history.note(self._task.name, node.path, seconds)

    def _learn(self) -> None:
        """Find out what each node weighs; once, as a weight that changed would move progress."""
        self._known = True
        self._dirty.update(self._task.walk())
        command = self._task.name
        self._expected = self._history.expected(command)
        for node in self._task.walk():
            children = node.subtasks
            expected = [self._history.expected(command, child.path) for child in children]
            sizes = [sum(1 for _ in child.leaves()) for child in children]
            self._weights.update(zip(children, weights_of(expected, sizes), strict=True))

    def _describe_what_changed(self) -> None:
        dirty = self._dirty
        while dirty:
            node = dirty.pop()  # before it is described: what changes meanwhile is described again
            self._fields[node] = self._described(node)

    def _described(self, node: BaseTask) -> Node:
        outcome = node.tracker.outcome
        fields: Node = {"name": _short(node.name, NAME_LENGTH), "type": node.task_type.value}
        if isinstance(node, LeafTask):
            fields["target"] = _short(node.target, NAME_LENGTH)
            fields["command"] = _short(node.command_name, NAME_LENGTH)
            fields["command_id"] = node.command_id or ""
        fields["status"] = outcome.status.name
        fields["result_code"] = outcome.result_code.name
        fields["message"] = _short(outcome.message, MESSAGE_LENGTH)
        fields["started"] = _time(self._started.get(node))
        fields["finished"] = _time(self._finished.get(node))
        weight = self._weights.get(node)
        fields["weight"] = round(weight, 3) if weight not in {None, 1.0} else None
        return {key: value for key, value in fields.items() if value not in {"", None}}

    def _made(
        self, task: BaseTask, below: NodeBelow, waits: list[Node], level: int
    ) -> tuple[Node, float]:
        """Return a node with all below it, and how far it is, unrounded."""
        node = dict(self._fields[task])
        is_over = task in self._finished
        if isinstance(task, LeafTask):
            progress = float(self._leaf(task, node, below, waits, level, is_over=is_over))
        else:
            made = [self._made(child, below, waits, level + 1) for child in task.subtasks]
            node["children"] = [child for child, _ in made]
            weights = (self._weights[child] for child in task.subtasks)
            progress = share(zip(weights, (part for _, part in made), strict=True))
            if task in self._started and not is_over:
                phase = self._phase(task)
                node |= {"phase": phase} if phase else {}
        progress = 100.0 if is_over else max(progress, self._reached.get(task, 0.0))
        self._reached[task] = progress
        node["progress"] = 100 if is_over else min(99, int(progress + 1e-9))
        return _children_last(node), progress

    def _phase(self, task: BaseTask) -> str:
        """Say what a group does now."""
        children = task.subtasks
        if len(children) == 1:
            return self._phase(children[0])
        if task.task_type is TaskType.PARALLEL:
            ended = sum(child in self._finished for child in children)
            return f"{ended} of {len(children)} ended"
        for index, child in enumerate(children):
            if child in self._started and child not in self._finished:
                return f"{_short(child.name, NAME_LENGTH)} ({index + 1} of {len(children)})"
        return ""

    def _leaf(
        self,
        leaf: LeafTask,
        node: Node,
        below: NodeBelow,
        waits: list[Node],
        level: int,
        *,
        is_over: bool,
    ) -> int:
        """Add what is below a leaf; return its progress."""
        progress: int = leaf.tracker.progress
        if leaf.task_type is TaskType.PLAN and leaf in self._started:
            details = leaf.details
            children = [_without_nothing(child) for child in details.get("children", ())]
            runs = list(details.get("run_uids") or ())[-RUNS_SHOWN:]
            for child in children:
                self._nest(child, below, level + 1, is_over=is_over)
            node |= _without_nothing({"run_uids": runs, "children": children})
        elif leaf.task_type is TaskType.CONFIRM and leaf in self._started and not is_over:
            asked = leaf.details.get("step", {}).get("prompt", "")
            node |= _without_nothing({"note": _short(f"asks: {asked}", MESSAGE_LENGTH)})
        elif leaf.task_type is TaskType.ANALYSIS and leaf in self._started and not is_over:
            said = str(leaf.details.get("said", ""))
            node |= _without_nothing({"note": _short(said, MESSAGE_LENGTH)})
        elif leaf.task_type is TaskType.DEVICE:
            progress = max(progress, self._nest(node, below, level, is_over=is_over))
            if leaf in self._started and not is_over:
                node |= _without_nothing({"until": leaf.details.get("until")})
        if leaf in self._started and not is_over:
            waits += _running_leaves(node)
        return progress

    def _nest(self, node: Node, below: NodeBelow, level: int, *, is_over: bool) -> int:
        """Hang the tree of another device's command below `node`; return its progress."""
        target, command_id = node.get("target"), node.get("command_id")
        if not target or not command_id:
            return 0
        root = below(target, command_id, not is_over)
        if root is None:
            return 0
        told = _bounded({key: root[key] for key in ("phase", "folded", "note") if root.get(key)})
        if is_over:
            told.pop("phase", None)
        node |= told
        if is_over and not has_ended(root):
            node["note"] = "what is below is as it was last heard of"
        if root.get("children"):
            if level + _depth(root) > MAX_TREE_DEPTH:
                node["note"] = "what is below is not shown: too many levels"
            else:
                node["children"] = [_taken_over(child) for child in root["children"]]
        return int(root.get("progress", 0))

    def _never_run(self, status: TaskStatus) -> Node:
        code = _NOT_RUN.get(status, ResultCode.FAILED)
        fields = self._fields[self._task]
        return fields | {
            "command": fields["name"],
            "command_id": self.uid,
            "status": status.name,
            "result_code": code.name,
            "progress": 100,
            "note": NEVER_BEGAN,
        }

    def _say_what_is_ahead(self, root: Node, waits: list[Node]) -> None:
        left = time_left(self._expected, self._clock() - self._began[self._task])
        if left is not None:
            root["eta"] = round(left, 1)
        waits.sort(key=lambda node: str(node.get("started") or ""))
        root["waiting"] = len(waits)
        root["waits_for"] = [
            {
                "device": node.get("target") or node["name"],
                "command": node.get("command", ""),
                "since": node.get("started"),
            }
            | _without_nothing({"until": node.get("until")})
            for node in waits[:WAITS_SHOWN]
        ]


def never_run(snapshot: Node, status: TaskStatus) -> Node:
    """Return the tree of a command that ended in the queue: no node of it will ever begin.

    Parameters
    ----------
    snapshot : dict
        The tree.
    status : TaskStatus
        How the command ended; the nodes below it count as aborted.
    """
    if has_ended(snapshot):
        return snapshot
    code = _NOT_RUN.get(status, ResultCode.FAILED)
    ended = {"status": status.name, "result_code": code.name, "message": NEVER_BEGAN}
    below = [never_run(child, TaskStatus.ABORTED) for child in snapshot["children"]]
    return snapshot | ended | {"children": below}


def _running_leaves(node: Node) -> Iterator[Node]:
    """Yield what runs below a node that runs; the node itself if nothing does."""
    found = False
    for child in node.get("children", ()):
        if not has_ended(child) and child.get("status") == TaskStatus.IN_PROGRESS.name:
            found = True
            yield from _running_leaves(child)
    if not found:
        yield node


def _children_last(node: Node) -> Node:
    """Put what is about the node itself first, for people who read documents as they are."""
    children = node.pop("children", None)
    return node if children is None else node | {"children": children}


def _taken_over(node: Node) -> Node:
    """Copy what a child tells of a node: bounded, and to be changed where a document is fitted."""
    copy = _bounded(node)
    if "children" in copy:
        copy["children"] = [_taken_over(child) for child in copy["children"]]
    return copy


def _bounded(node: Node) -> Node:
    """Return a copy with short texts, small numbers, and few of what there may be many of."""
    copy: Node = {key: _bounded_value(key, value) for key, value in node.items()}
    if "run_uids" in copy:
        copy["run_uids"] = [_short(uid, NAME_LENGTH) for uid in copy["run_uids"][-RUNS_SHOWN:]]
    if "waits_for" in copy:
        copy["waits_for"] = [_bounded(wait) for wait in copy["waits_for"][:WAITS_SHOWN]]
    if "folded" in copy:
        folded: dict[str, int] = {}
        for word, count in sorted(copy["folded"].items(), key=itemgetter(1), reverse=True):
            count_outcome(folded, word, min(count, LARGEST))
        copy["folded"] = folded
    return copy


def _bounded_value(key: str, value: object) -> object:
    if isinstance(value, str):
        return _short(value, _LENGTHS.get(key, NAME_LENGTH))
    return min(value, LARGEST) if isinstance(value, int) else value


def _depth(node: Node) -> int:
    return 1 + max(map(_depth, node.get("children", ())), default=0)


def _without_nothing(fields: Mapping[str, Any]) -> Node:
    """Leave out what is empty, as documents do, and shorten texts."""
    kept = {key: value for key, value in fields.items() if value or value == 0}
    if "message" in kept:
        kept["message"] = _short(kept["message"], MESSAGE_LENGTH)
    return kept


def _short(text: str, length: int) -> str:
    """Return the first line of a text, and not more than so much of it.

    Examples
    --------
    >>> _short("no power in the rack", 12)
    'no power in…'
    """
    line = text.strip().partition("\n")[0]
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment is not None else None
