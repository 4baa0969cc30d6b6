"""The commands that plans give to a device's children, seen as subtasks of the plan."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.devices._plan_book import PlanBook
from milonga.errors import ArgumentError
from milonga.tasks import ChildSpec

__all__ = ["Calls", "PlanCaller"]

CALLS_KEPT = 500
"""How many commands of one plan are shown; of more, the latest."""

PLANS_KEPT = 16
"""Of how many plans the commands are remembered here; ended commands have a copy."""


class Invocation(Protocol):
    """A command on its way at a child."""

    @property
    def command_id(self) -> str | None:
        """The child's id of the command."""

    def abort(self) -> None:
        """Ask the child to end it."""

    def close(self) -> None:
        """Stop listening."""


class Links(Protocol):
    """The way to the children, by resource locator."""

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Invocation:
        """Start a command."""


@dataclass
class Call:
    """One command of a plan to a child. Updates come from any thread."""

    child: ChildSpec
    command: str
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished: datetime | None = None
    status: TaskStatus = TaskStatus.QUEUED
    code: ResultCode | None = None
    message: str = ""
    progress: int = 0
    invocation: Invocation | None = None

    def note(self, status: Any = None, progress: Any = None, result: Any = None) -> None:
        """Take what the child says; never raises for what a child may say."""
        if isinstance(progress, int):
            self.progress = progress
        if isinstance(result, tuple | list) and result:
            try:
                self.code = ResultCode(int(result[0]))
            except (TypeError, ValueError):
                self.code = ResultCode.UNKNOWN
            self.message = " ".join(map(str, result[1:]))
        if isinstance(status, TaskStatus) and not is_final(self.status):
            self.status = status
            if is_final(status):
                self.finished = datetime.now(UTC)

    def snapshot(self) -> dict[str, Any]:
        """Return it as a node of a command tree."""
        invocation = self.invocation
        code = self.code
        if code is None:
            code = (
                ResultCode.STARTED if self.status is TaskStatus.IN_PROGRESS else ResultCode.QUEUED
            )
        return {
            "name": self.child.name,
            "type": "device",
            "target": self.child.trl,
            "command": self.command,
            "command_id": invocation.command_id if invocation is not None else None,
            "status": self.status.name,
            "result_code": code.name,
            "message": self.message,
            "progress": 100 if self.status is TaskStatus.COMPLETED else self.progress,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat() if self.finished else None,
            "children": [],
        }


class Calls:
    """The commands of plans, by the id of the plan's handle. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_plan: OrderedDict[str, deque[Call]] = OrderedDict()

    def add(self, plan: str, call: Call) -> None:
        """Remember a command of a plan."""
        with self._lock:
            self._by_plan.setdefault(plan, deque(maxlen=CALLS_KEPT)).append(call)
            while len(self._by_plan) > PLANS_KEPT:
                self._by_plan.popitem(last=False)

    def snapshots(self, plan: str) -> list[dict[str, Any]]:
        """Return the commands of a plan as nodes of a command tree."""
        with self._lock:
            calls = list(self._by_plan.get(plan, ()))
        return [call.snapshot() for call in calls]

    def running(self, plan: str) -> int:
        """Return how many commands of a plan have not ended."""
        with self._lock:
            return sum(not is_final(call.status) for call in self._by_plan.get(plan, ()))


class PlanCaller:
    """The way from plans to children, by the children's names.

    Parameters
    ----------
    children : iterable of ChildSpec
        The children.
    links : Links
        Reaches them.
    hindrance : callable
        Returns why a child gets no commands, or an empty text.
    running : callable
        Returns the id of the plan that runs.

    Attributes
    ----------
    book : PlanBook or None
        Where what the running plan does is written down.
    """

    book: PlanBook | None = None

    def __init__(
        self,
        children: Iterable[ChildSpec],
        links: Links,
        hindrance: Callable[[ChildSpec], str],
        running: Callable[[], str],
    ) -> None:
        self.calls = Calls()
        self._children: Mapping[str, ChildSpec] = {child.name: child for child in children}
        self._links = links
        self._hindrance = hindrance
        self._running = running

    def child(self, target: str, command: str) -> ChildSpec:
        """Return the child of a name, if it may get a command.

        Raises
        ------
        ArgumentError
            If there is no child of that name, or it gets no commands now.
        """
        child = self._children.get(target)
        if child is None:
            known = ", ".join(self._children) or "none, since the device has no children"
            raise ArgumentError(
                f"invoke {command}: child: found {target!r}; expected one of {known}"
            )
        hindrance = self._hindrance(child)
        if hindrance:
            raise ArgumentError(f"invoke {command}: child {target!r} {hindrance}")
        return child

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Invocation:
        """Start a command at a child; in the engine's event loop.

        Raises
        ------
        ArgumentError
            If there is no child of that name, or it gets no commands now; it goes to the plan.
        """
        child = self.child(target, command)
        call = Call(child, command)
        self.calls.add(self._running(), call)

        def updated(**update: Any) -> None:
            call.note(update.get("status"), update.get("progress"), update.get("result"))
            on_update(**update)

        def invoke(told: Callable[..., None]) -> Invocation:
            return self._links.invoke(child.trl, command, argument, told)

        book = self.book
        call.invocation = (
            invoke(updated)
            if book is None
            else book.send(child, command, argument, updated, invoke)
        )
        return call.invocation
