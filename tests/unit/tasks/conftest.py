"""A stage for task trees: virtual time, and child devices that do as the test says."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks import BaseTask, ExecutionContext, LeafTask, Task, TaskType, internal_action


class Timer:
    """A call that is due at a time."""

    def __init__(self, due: float, function: Callable[[], None]) -> None:
        self.due = due
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Drop the call."""
        self.function = None


class VirtualRuntime:
    """A runtime whose thread is the test's, and whose time stands still until told."""

    def __init__(self) -> None:
        self.time = 0.0
        self.turns = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Queue a call."""
        self._soon.append(function)

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        """Queue a call for later."""
        assert delay >= 0
        timer = Timer(self.time + delay, function)
        heapq.heappush(self._later, (timer.due, next(self._order), timer))
        return timer

    @property
    def pending_timers(self) -> int:
        """How many calls are due later."""
        return sum(timer.function is not None for _, _, timer in self._later)

    def turn(self) -> bool:
        """Make one call that is due; return whether there was one."""
        if not self._soon:
            return False
        self.turns += 1
        self._soon.popleft()()
        return True

    def settle(self) -> None:
        """Make all calls that are due now."""
        while self.turn():
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, and make the calls that fall due in their order."""
        self.settle()
        end = self.time + seconds
        while self._later and self._later[0][0] <= end:
            due, _, timer = heapq.heappop(self._later)
            self.time = max(self.time, due)
            if timer.function is not None:
                timer.function()
            self.settle()
        self.time = end


class ThreadRuntime:
    """A runtime with a thread of its own, and real time."""

    def __init__(self) -> None:
        self._soon: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="test-runtime")
        self._thread.start()

    def _run(self) -> None:
        while (function := self._soon.get()) is not None:
            function()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Queue a call."""
        self._soon.put(function)

    def call_later(self, delay: float, function: Callable[[], None]) -> threading.Timer:
        """Queue a call for later."""
        timer = threading.Timer(delay, self.call_soon, [function])
        timer.daemon = True
        timer.start()
        return timer

    def close(self) -> None:
        """End the thread."""
        self._soon.put(None)
        self._thread.join()


class Call:
    """A command at a child, in the hands of the test."""

    def __init__(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> None:
        self.target = target
        self.command = command
        self.argument = argument
        self.report = on_update
        self.command_id: str | None = f"1_{target}_{command}"
        self.aborts = 0
        self.closes = 0
        self.confirms_aborts = False

    def abort(self) -> None:
        """Note the wish, and confirm it if told so."""
        self.aborts += 1
        if self.confirms_aborts:
            self.ends(TaskStatus.ABORTED, ResultCode.ABORTED, "as asked")

    def close(self) -> None:
        """Note the end of listening."""
        self.closes += 1

    def ends(self, status: TaskStatus, code: ResultCode, text: str = "") -> None:
        """Report the end."""
        self.report(status=status, result=(code, text))

    def succeeds(self) -> None:
        """Report success."""
        self.ends(TaskStatus.COMPLETED, ResultCode.OK, "done")

    def fails(self, text: str = "no beam") -> None:
        """Report an ordinary failure."""
        self.ends(TaskStatus.COMPLETED, ResultCode.FAILED, text)

    def breaks(self, text: str = "bug") -> None:
        """Report that the child's executor broke down."""
        self.ends(TaskStatus.FAILED, ResultCode.FAILED, text)

    def refuses(self, text: str = "not now") -> None:
        """Report a rejection."""
        self.ends(TaskStatus.REJECTED, ResultCode.REJECTED, text)


class Children:
    """All child devices; each command waits for the test unless the child has a habit."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.habits: dict[str, Callable[[Call], None]] = {}

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Call:
        """Start a command."""
        call = Call(target, command, argument, on_update)
        self.calls.append(call)
        self.habits.get(target, lambda _: None)(call)
        return call

    def __getitem__(self, target: str) -> Call:
        return next(call for call in self.calls if call.target == target)

    @property
    def called(self) -> list[str]:
        """The targets of all calls, in order."""
        return [call.target for call in self.calls]


class Stage:
    """Everything that a tree needs, and what came of it."""

    def __init__(self) -> None:
        self.runtime = VirtualRuntime()
        self.children = Children()
        self.outcomes: list[dict[str, Any]] = []
        self.progress: list[int] = []
        self.context = ExecutionContext(
            self.runtime,
            self.children,
            clock=lambda: self.runtime.time,
            now=lambda: datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.runtime.time),
        )

    call_type = Call

    @staticmethod
    def context_with(runtime: Any, caller: Any) -> ExecutionContext:
        """Return a context with another runtime and other children, on real time."""
        return ExecutionContext(runtime, caller)

    @staticmethod
    def leaf(name: str, **keywords: Any) -> LeafTask:
        """Return a leaf that commands the device ``lab/<name>/1``."""
        return LeafTask(name, f"lab/{name}/1", "Go", **keywords)

    @staticmethod
    def method(name: str, method: Callable[..., object], **keywords: Any) -> LeafTask:
        """Return a leaf that calls a method."""
        action = internal_action(method, keywords.pop("argument", None))
        kind = TaskType.INTERNAL
        return LeafTask(name, name, "Go", task_type=kind, action=action, **keywords)

    def sequence(self, *subtasks: BaseTask | str, name: str = "root", **keywords: Any) -> Task:
        """Return a sequence; texts are leaves."""
        return self._composite(name, TaskType.SEQUENTIAL, subtasks, keywords)

    def parallel(self, *subtasks: BaseTask | str, name: str = "root", **keywords: Any) -> Task:
        """Return a parallel task; texts are leaves."""
        return self._composite(name, TaskType.PARALLEL, subtasks, keywords)

    def _composite(
        self, name: str, kind: TaskType, subtasks: tuple[BaseTask | str, ...], keywords: Any
    ) -> Task:
        nodes = [self.leaf(node) if isinstance(node, str) else node for node in subtasks]
        return Task(name, kind, subtasks=nodes, **keywords)

    def observe(self, root: BaseTask) -> BaseTask:
        """Note what comes of a tree."""
        root._completed_callback = lambda **payload: self.outcomes.append(payload)
        root._progress_callback = lambda **payload: self.progress.append(payload["progress"])
        return root

    def start(self, root: BaseTask) -> BaseTask:
        """Start a tree and let it come to rest."""
        self.observe(root).start(self.context)
        self.runtime.settle()
        return root

    def call(self, name: str) -> Call:
        """Return the call at the device of the leaf of this name."""
        return self.children[f"lab/{name}/1"]

    def settle(self) -> None:
        """Let everything happen that is due."""
        self.runtime.settle()

    @property
    def outcome(self) -> dict[str, Any]:
        """The completion payload, of which there is one."""
        (payload,) = self.outcomes
        return payload


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Give a stage, and check after the test that ended trees let go of all they held."""
    stage = Stage()
    yield stage
    if stage.outcomes:
        assert all(call.closes == 1 for call in stage.children.calls)
        assert stage.runtime.pending_timers == 0


@pytest.fixture
def thread_runtime() -> Iterator[ThreadRuntime]:
    """Give a runtime with a thread, and end it."""
    runtime = ThreadRuntime()
    yield runtime
    runtime.close()


@pytest.fixture(scope="session")
def new_stage() -> type[Stage]:
    """Give the class of stages, for tests that need many."""
    return Stage
