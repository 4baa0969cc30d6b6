"""The attribute ``taskTree``: the commands of a device and their trees, told as they change.

A change in a tree only sets a flag, and a timer if none is set. The document is made on the
device's own thread, five times a second at the most, and only if somebody listens; or by who
reads it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from milonga.control_model import TaskStatus
from milonga.devices._child_trees import ChildTrees
from milonga.devices._tree_document import changes_between, fit, to_text
from milonga.devices._tree_nodes import FollowedTree
from milonga.devices._tree_progress import DurationHistory, RecentDurations
from milonga.devices._tree_queue import note_queue
from milonga.lrc import Job
from milonga.lrc.task_tree import SCHEMA_VERSION
from milonga.tasks import BaseTask

__all__ = ["ENDED_SHOWN", "MAX_TEXT", "PERIOD", "TaskTrees"]

PERIOD = 0.2
"""Seconds between two versions of the document, at the least."""

REFRESH = 1.0
"""Seconds after which a command that runs is told again, even if it tells nothing new."""

EFFORT = 10
"""How many times as long as making a version took, there is no next one: big trees are slower."""

MAX_TEXT = 64 * 1024
"""Characters that a document takes at the most."""

_HEAD = 1024
"""Characters that are kept for what is not a command."""

ENDED_SHOWN = 5
"""How many commands are shown after they have ended."""

INTEREST = 5.0
"""Seconds for which a read counts as somebody who listens."""

AFTERMATH = 2.0
"""Seconds for which children are watched after the last command, as their trees come later."""


class Later(Protocol):
    """The device's clock and thread."""

    def __call__(self, delay: float, function: Callable[[], None]) -> object:
        """Call `function` on the thread after `delay` seconds."""


class TaskTrees:
    """The trees of a device's commands, as a document that is told. Safe across threads.

    Parameters
    ----------
    device : str
        Name of the device.
    call_later : callable
        Runs a function on the device's own thread.
    publish : callable
        Called with the texts of a new version, whole and delta; returns what sends them, which
        is called with no lock held.
    is_watched : callable
        Tells whether anybody listens.
    status_of : callable
        Returns the status of a command by its id.
    make_child_trees : callable
        Makes what watches the children, given what to call when one has news.
    history : DurationHistory, optional
        How long commands took; a `RecentDurations` by default.
    clock, now : callable, optional
        Monotonic time in seconds, and the aware time of day.
    """

    def __init__(
        self,
        device: str,
        call_later: Later,
        publish: Callable[[str, str], Callable[[], None]],
        is_watched: Callable[[], bool],
        status_of: Callable[[str], TaskStatus],
        make_child_trees: Callable[[Callable[[], None]], ChildTrees],
        history: DurationHistory | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.history: DurationHistory = history or RecentDurations()
        self._device = device
        self._call_later = call_later
        self._publish = publish
        self._is_watched = is_watched
        self._status_of = status_of
        self._clock = clock
        self._now = now
        self._children = make_child_trees(self._changed)
        self._epoch = now().isoformat()
        self._flags = threading.Lock()
        self._making = threading.Lock()
        self._armed = False
        self._stale = True
        self._pause = PERIOD
        self._refreshing = False
        self._closed = False
        self._last_turn = self._made_at = self._read_at = float("-inf")
        self._trees: OrderedDict[str, FollowedTree] = OrderedDict()
        self._commands: list[dict[str, Any]] = []
        self._omitted = 0
        self._number = 0
        self._text = self._delta = ""
        self._made = 0

    def follow(self, uid: str, job: Job, task: BaseTask) -> None:
        """Show a command from now on; to be called before its tree starts."""
        tree = FollowedTree(uid, task, self._changed, self.history, self._now, self._clock)
        ended = job.on_ended

        def also_here(status: TaskStatus, result: object) -> None:
            self._changed()  # of a command that never ran, the tree tells nothing
            ended(status, result)

        job.on_ended = also_here
        with self._flags:
            self._trees[uid] = tree
            old = [key for key, known in self._trees.items() if self._is_over(key, known)]
            for key in old[:-ENDED_SHOWN]:
                del self._trees[key]
        self._changed()

    def text(self) -> str:
        """Return the document as it stands; for who reads the attribute."""
        self._read_at = self._clock()
        stale = self._stale or self._is_running()  # small steps of progress are told to nobody
        if self._text == "" or (stale and (self._is_due() or self._has_ended())):
            self._tell()
        return self._text

    def delta_text(self) -> str:
        """Return the last delta."""
        self.text()
        return self._delta

    def statistics(self) -> dict[str, int]:
        """Return how many versions were made, and how many children are watched."""
        return {"versions": self._made, "followed": len(self._trees)} | {
            "children_watched": self._children.watched
        }

    def close(self) -> None:
        """Tell nothing any more."""
        self._closed = True
        self._children.close()

    # In any thread

    def _changed(self) -> None:
        """Note that the document is old. Nothing else is done where the change happened."""
        self._stale = True
        if not (self._armed or self._closed) and self._arm():
            delay = max(0.0, self._last_turn + self._pause - self._clock())
            self._call_later(delay, self._turn)

    def _arm(self) -> bool:
        """Tell whether it is for the caller to set the timer."""
        with self._flags:
            armed, self._armed = self._armed, True
        return not armed

    def _is_running(self) -> bool:
        return any(tree.is_running for tree in list(self._trees.values()))

    def _is_due(self) -> bool:
        return self._clock() - self._made_at >= PERIOD

    def _has_ended(self) -> bool:
        """Tell whether a command has ended since the document was made."""
        running = [node for node in self._commands if node.get("finished") is None]
        return any(
            known.ended and any(node.get("command_id") == uid for node in running)
            for uid, known in list(self._trees.items())
        )

    def _is_over(self, uid: str, tree: FollowedTree) -> bool:
        return tree.ended or self._status_of(uid) in _OVER

    # On the device's own thread

    def _turn(self) -> None:
        """Do what is to be done at most so often: keep the history, and tell who listens."""
        self._last_turn = self._clock()
        self._armed = False
        if self._closed:
            return
        trees = list(self._trees.items())
        for _, tree in trees:
            tree.note_durations()
        if self._stale and self._is_watched():
            self._tell()
            if self._is_running() and not self._refreshing:
                self._refreshing = True
                self._call_later(REFRESH, self._refresh)
        if self._children.watched and all(self._is_over(uid, tree) for uid, tree in trees):
            self._call_later(AFTERMATH, self._release_children)

    def _refresh(self) -> None:
        """Tell again what has no end in sight: its time left, and small steps of progress."""
        self._refreshing = False
        self._changed()

    def _release_children(self) -> None:
        if all(self._is_over(uid, tree) for uid, tree in list(self._trees.items())):
            self._children.release()

    def _tell(self) -> None:
        with self._making:
            began = self._clock()
            send = self._make()
            self._pause = max(PERIOD, EFFORT * (self._clock() - began))
        if send is not None:
            send()

    def _make(self) -> Callable[[], None] | None:
        """Make the next version, if there is something new; return what sends it."""
        self._stale = False
        self._made_at = self._clock()
        self._made += 1
        commands = [self._node(uid, tree) for uid, tree in list(self._trees.items())]
        note_queue(self._device, commands)
        omitted = fit(commands, MAX_TEXT - _HEAD)
        if self._text and commands == self._commands and omitted == self._omitted:
            return None
        head = {
            "version": SCHEMA_VERSION,
            "device": self._device,
            "epoch": self._epoch,
            "number": self._number + 1,
            "time": self._now().isoformat(timespec="milliseconds"),
        }
        self._text = to_text(head | {"commands": commands, "omitted": omitted})
        self._delta = self._delta_of(head, commands, omitted)
        self._number += 1
        self._commands, self._omitted = commands, omitted
        return self._publish(self._text, self._delta)

    def _delta_of(self, head: dict[str, Any], commands: list[dict[str, Any]], omitted: int) -> str:
        changes = changes_between(self._commands, commands)
        if omitted != self._omitted:
            changes.append({"op": "replace", "path": "/omitted", "value": omitted})
        delta = to_text(head | {"base": self._number, "changes": changes})
        if len(delta) > len(self._text):
            whole = [
                {"op": "replace", "path": "/commands", "value": commands},
                {"op": "replace", "path": "/omitted", "value": omitted},
            ]
            delta = to_text(head | {"base": self._number, "changes": whole})
        return delta

    def _node(self, uid: str, tree: FollowedTree) -> dict[str, Any]:
        status = None if tree.ended else self._status_of(uid)
        return tree.node(self._below, status)

    def _below(self, trl: str, command_id: str, awaited: bool) -> dict[str, Any] | None:
        listened = self._clock() - self._read_at < INTEREST or self._is_watched()
        return self._children.node(trl, command_id, awaited and listened)


_OVER = frozenset(
    {
        TaskStatus.ABORTED,
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.REJECTED,
        TaskStatus.NOT_FOUND,
    }
)
