"""Task trees that run in the hands of a test, and a device's clock that it turns."""

import heapq
import itertools
import json
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._child_trees import ChildTrees
from milonga.devices._task_tree import TaskTrees
from milonga.lrc import Job, Sighting
from milonga.tasks import BaseTask, ExecutionContext, LeafTask, Task, TaskType


class Call:
    """A command at a child."""

    def __init__(self, target: str, report: Callable[..., None]) -> None:
        self.target = target
        self.report = report
        self.command_id: str | None = None
        self.progress = 0
        self.ended = False

    def accept(self) -> None:
        """Give the command an id."""
        self.command_id = f"17_{self.target}_Go"
        self.report(command_id=self.command_id, status=TaskStatus.IN_PROGRESS)

    def advance(self, progress: int) -> None:
        """Report progress."""
        self.progress = progress
        self.report(progress=progress)

    def end(
        self, code: ResultCode = ResultCode.OK, status: TaskStatus = TaskStatus.COMPLETED
    ) -> None:
        """Report the end."""
        self.ended = True
        self.report(status=status, result=(code, f"that is {code.name}"))

    def abort(self) -> None:
        """Confirm an abort."""
        self.end(ResultCode.ABORTED, TaskStatus.ABORTED)

    def close(self) -> None:
        """Nothing is held."""


class Desk:
    """A device's thread, clock and children, and the trees that it shows."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.skew = 0.0  # by which the time of day was set
        self.calls: list[Call] = []
        self.statuses: dict[str, TaskStatus] = {}
        self.watched = True
        self.pushed: list[tuple[float, str, str]] = []
        self.child_start = "noon"
        self.child_progress: dict[str, int] = {}
        self.watches: dict[str, Callable[[Any], None]] = {}
        self._soon: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.context = ExecutionContext(self, self, clock=lambda: self.time)
        self.trees = TaskTrees(
            "lab/parent/1",
            self.call_later,
            self._publish,
            lambda: self.watched,
            lambda uid: self.statuses.get(uid, TaskStatus.IN_PROGRESS),
            lambda changed: ChildTrees(self._watch, changed, lambda _: self.child_start),
            clock=lambda: self.time,
            now=lambda: datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time + self.skew),
        )

    # What the tree and its document need

    def call_soon(self, function: Callable[[], None]) -> None:
        """Queue a call."""
        self._soon.append(function)

    def call_later(self, delay: float, function: Callable[[], None]) -> "Desk":
        """Queue a call for later."""
        heapq.heappush(self._later, (self.time + delay, next(self._order), function))
        return self

    def cancel(self) -> None:
        """Deadlines are not what is tested here."""

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Call:
        """Start a command."""
        call = Call(target, on_update)
        self.calls.append(call)
        return call

    def _publish(self, whole: str, delta: str) -> Callable[[], None]:
        return lambda: self.pushed.append((self.time, whole, delta))

    def _watch(self, trl: str, attribute: str, on_sighting: Callable[[Any], None]) -> Any:
        self.watches[trl] = on_sighting
        return Watch(self, trl)

    # What a test does

    def settle(self) -> None:
        """Make all calls that are due now."""
        while self._soon:
            self._soon.popleft()()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.settle()
        end = self.time + seconds
        while self._later and self._later[0][0] <= end:
            due, _, function = heapq.heappop(self._later)
            self.time = max(self.time, due)
            function()
            self.settle()
        self.time = end

    def start(self, root: BaseTask, uid: str = "1_1_Go") -> BaseTask:
        """Follow a tree and start it."""
        self.trees.follow(uid, Job("Go", lambda report: report()), root)
        root.start(self.context)
        self.settle()
        return root

    @property
    def running(self) -> list[Call]:
        """The calls that have not ended."""
        return [call for call in self.calls if not call.ended]

    def turn(self, random: random.Random) -> bool:
        """Let something happen at a child; return whether there was anything left to happen."""
        running = self.running
        if not running:
            return False
        call = random.choice(running)
        what = random.random()
        if call.command_id is None and what < 0.7:
            call.accept()
        elif what < 0.7:
            call.advance(random.randint(0, 100))
        else:
            call.end(random.choice([ResultCode.OK, ResultCode.OK, ResultCode.FAILED]))
        self.settle()
        return True

    def hear(self, random: random.Random) -> None:
        """Let a watched child tell something of its own: late, without the command, or nonsense."""
        watched = [call for call in self.calls if call.target in self.watches and call.command_id]
        if not watched:
            return
        call = random.choice(watched)
        what = random.random()
        if what < 0.1:
            gone = Sighting(call.target, "taskTree", connected=False, reason="no answer")
            self.watches[call.target](gone)
            return
        progress = random.randint(0, 100)  # it may fall back
        text = child_text(random, call, progress)
        if what < 0.2:
            text, progress = text[: random.randint(0, len(text) - 1)], 0
        elif what < 0.3:
            text, progress = text.replace(str(call.command_id), "17_of_before"), 0
        self.child_progress[call.target] = progress
        self.watches[call.target](Sighting(call.target, "taskTree", text))


def child_text(random: random.Random, call: Call, progress: int) -> str:
    """Write what a child tells of a command."""

    def nodes(levels: int) -> list[dict[str, Any]]:
        return [
            {
                "name": f"n{number}",
                "status": random.choice(["QUEUED", "IN_PROGRESS", "COMPLETED", "odd"]),
                "progress": random.randint(0, 100),
                "folded": {"OK": random.randint(0, 9)},
                "children": nodes(levels - 1) if levels else [],
            }
            for number in range(random.randint(0, 3))
        ]

    command = {
        "name": "Go",
        "command_id": call.command_id,
        "status": random.choice(["QUEUED", "IN_PROGRESS", "COMPLETED", "ABORTED"]),
        "progress": progress,
        "phase": random.choice(["", "turning"]),
        "children": nodes(2),
    }
    head = {"version": 1, "device": call.target, "epoch": "e", "number": 1, "time": "t"}
    return json.dumps(head | {"commands": [command]})


class Watch:
    """Somebody who watches a child."""

    def __init__(self, desk: Desk, trl: str) -> None:
        self._desk, self._trl = desk, trl

    def close(self) -> None:
        """Watch no more."""
        self._desk.watches.pop(self._trl, None)


def leaf(name: str) -> LeafTask:
    """Return a leaf that commands a device of its own."""
    return LeafTask(name, f"lab/{name}/1", "Go")


def group(name: str, *children: BaseTask, parallel: bool = True) -> Task:
    """Return a composite."""
    kind = TaskType.PARALLEL if parallel else TaskType.SEQUENTIAL
    return Task(name, kind, subtasks=children)


def random_tree(random: random.Random, name: str = "Go", levels: int = 3) -> BaseTask:
    """Return a tree of any shape."""
    if levels == 0 or (name != "Go" and random.random() < 0.4):
        return leaf(name)
    children = [
        random_tree(random, f"{name}-{number}", levels - 1)
        for number in range(random.randint(1, 4))
    ]
    return group(name, *children, parallel=random.random() < 0.5)


@pytest.fixture(scope="session")
def chance() -> Callable[[int], random.Random]:
    """Give what makes sources of chance, each the same for the same seed."""
    return random.Random  # noqa: S311 - for tests


@pytest.fixture
def desk() -> Desk:
    """Give a device without Tango."""
    return Desk()


@pytest.fixture(scope="session")
def trees() -> Any:
    """Give what makes trees, for tests that need many."""

    class Makers:
        new_desk = Desk
        leaf = staticmethod(leaf)
        group = staticmethod(group)
        random_tree = staticmethod(random_tree)
        epoch = datetime(2030, 1, 1, tzinfo=UTC)
        second = timedelta(seconds=1)

    return Makers
