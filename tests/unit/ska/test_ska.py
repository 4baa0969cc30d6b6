"""Task trees as tasks of ska-tango-base."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import Scheduler
from milonga.ska import task_callback_of, tree_task
from milonga.tasks import ChildSpec, CommandMap, ExecutionContext, compose


class Children:
    """Child devices that end as they are told to; by default well, and at once."""

    command_id = "1_2_On"

    def __init__(self) -> None:
        self.ends = True
        self.tell: list[Callable[..., None]] = []

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> "Children":
        """Start a command."""
        self.tell.append(on_update)
        if self.ends:
            on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, "done"))
        return self

    def abort(self) -> None:
        """End all that runs."""
        for tell in self.tell:
            tell(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, "aborted"))

    def close(self) -> None:
        """Forget."""


@pytest.fixture
def children() -> Children:
    """Return the children."""
    return Children()


@pytest.fixture
def run(children: Children) -> Iterator[Callable[..., None]]:
    """Return a task function that switches two children on."""
    spec = CommandMap.from_data({"On": {"type": "parallel", "tasks": {"all": {"target": "*"}}}})
    specs = [ChildSpec(name=f"c{n}", trl=f"a/b/{n}") for n in range(2)]
    scheduler = Scheduler("test")
    context = ExecutionContext(runtime=scheduler, caller=children)
    yield tree_task(lambda: compose("On", spec["On"], None, specs, {}), context)
    scheduler.close()


def test_a_tree_tells_a_task_callback(run: Callable[..., None]) -> None:
    """Status, then status and result, by keyword."""
    told: list[dict[str, Any]] = []

    run(task_callback=lambda **news: told.append(news), task_abort_event=threading.Event())

    assert told[0] == {"status": TaskStatus.IN_PROGRESS}
    assert told[-1]["status"] is TaskStatus.COMPLETED
    assert told[-1]["result"][0] is ResultCode.OK


def test_the_abort_event_ends_a_tree(run: Callable[..., None], children: Children) -> None:
    """As an abort of ska-tango-base ends any task."""
    children.ends = False
    told: list[dict[str, Any]] = []
    abort = threading.Event()
    abort.set()

    run(task_callback=lambda **news: told.append(news), task_abort_event=abort)

    assert told[-1]["status"] is TaskStatus.ABORTED


def test_errors_become_an_exception() -> None:
    """A tracker keeps DevErrors; ska-tango-base takes an exception."""
    error = tango.DevError()
    error.reason = "API_Something"
    told: list[dict[str, Any]] = []

    task_callback_of(lambda **news: told.append(news))(
        task_name="On", status=TaskStatus.FAILED, error=(error,), devices=["a/b/c"]
    )

    assert told[0]["exception"].args[0].reason == "API_Something"
    assert "devices" not in told[0]


def test_a_component_manager_runs_a_tree(run: Callable[..., None]) -> None:
    """With the real executor of ska-tango-base, where that is installed."""
    executor_module = pytest.importorskip(
        "ska_tango_base.executor", reason="ska-tango-base is on the SKA's own index only"
    )
    told: list[dict[str, Any]] = []
    ended = threading.Event()

    def callback(**news: Any) -> None:
        told.append(news)
        if news.get("status") is TaskStatus.COMPLETED:
            ended.set()

    executor_module.TaskExecutor(max_workers=1).submit(run, task_callback=callback)

    assert ended.wait(10)
    assert told[-1]["result"][0] == ResultCode.OK
