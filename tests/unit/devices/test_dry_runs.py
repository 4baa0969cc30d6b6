"""What a plan would do, while its devices or the event loop take their time."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from bluesky.utils import MsgGenerator
from ophyd_async.core import Device

from milonga.devices._dry_run import Wanted, dry_run
from milonga.devices._plan_work import PlanWork
from milonga.devices._tree_job import TreeJob
from milonga.devices._tree_progress import RecentDurations
from milonga.lrc import Job
from milonga.tasks import ChildSpec, ExecutionContext, LeafTask, Task, TaskType


class Slit(Device):
    """A device that notes that it was asked."""

    asked = False

    async def connect(self, *_: Any, **__: Any) -> None:
        """Be there."""
        self.asked = True


class Loop:
    """An event loop that can be blocked."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.free = threading.Event()

    def block(self) -> None:
        """Have it do nothing until it is free."""
        blocked = threading.Event()

        def wait() -> None:
            blocked.set()
            self.free.wait()

        self.loop.call_soon_threadsafe(wait)
        assert blocked.wait(10)

    def settle(self) -> None:
        """Free it, and let it do all that it was given."""
        self.free.set()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(10)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Run a loop."""
    loop = Loop()
    loop.thread.start()
    yield loop
    loop.settle()
    loop.loop.call_soon_threadsafe(loop.loop.stop)
    loop.thread.join()
    loop.loop.close()


class Parent:
    """A device with a command of several plans, asked for what it would do."""

    submittable = ("Go",)
    specs: tuple[ChildSpec, ...] = ()

    def __init__(self, *works: Any) -> None:
        self._works = works
        self.monitor_is_free = False

    def check_allowed(self, name: str) -> None:
        """Allow all."""

    def refusal_before_queue(self, name: str) -> None:
        """Refuse nothing."""

    def make_job(self, name: str, _argument: str | None) -> Job:
        """Compose the command."""
        leaves = [
            LeafTask(f"plan-{number}", "plan", "RunPlan", task_type=TaskType.PLAN, action=work)
            for number, work in enumerate(self._works)
        ]

        def make(completed: Callable[..., None], progressed: Callable[..., None]) -> Task:
            return Task(
                "Go",
                TaskType.PARALLEL,
                completed_callback=completed,
                progress_callback=progressed,
                is_root=True,
                subtasks=leaves,
            )

        context = ExecutionContext(None, None)  # type: ignore[arg-type] # nothing is run
        tree = TreeJob(make, context)
        return Job(name, tree.start, tree.abort, work=tree)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Give the monitor back for a while."""
        self.monitor_is_free = True
        yield
        self.monitor_is_free = False

    def dry_run(self) -> Mapping[str, Any]:
        """Say what Go would do."""
        wanted = Wanted(command="Go")
        quiet: Callable[[str, str], Mapping[str, str]] = lambda *_: {}  # noqa: E731
        return dry_run(
            self, wanted, RecentDurations(), lambda _: False, quiet, waiting=self.waiting
        )


def plan() -> MsgGenerator[None]:
    """Do nothing."""
    yield from ()


def work(device: Device, loop: Loop) -> PlanWork:
    """Make the work of a leaf."""
    return PlanWork(lambda *_: None, plan(), [device], None, loop.loop)  # type: ignore[arg-type, return-value]


def test_plans_are_foreseen_with_their_devices(loop: Loop) -> None:
    """What is there has no problem."""
    slits = [Slit("left"), Slit("right")]

    told = Parent(*(work(slit, loop) for slit in slits)).dry_run()

    assert told["accepted"]
    assert [call.get("problem") for call in told["calls"]] == [None, None]
    assert all(slit.asked for slit in slits)


def test_a_blocked_loop_is_said_and_asks_nobody_later(loop: Loop) -> None:
    """The answer has come by then; devices are not connected for nothing."""
    slits = [Slit("left"), Slit("right")]
    loop.block()

    told = Parent(*(work(slit, loop) for slit in slits)).dry_run()

    for call, name in zip(told["calls"], ("left", "right"), strict=True):
        assert f"{name}: the event loop, in which it would be asked, is busy" in call["problem"]
    loop.settle()
    assert not any(slit.asked for slit in slits)


def test_all_plans_are_asked_before_one_is_waited_for_and_the_device_is_free_then() -> None:
    """So that they wait at the same time, and others are answered meanwhile."""
    seen: list[str] = []

    class Work:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, *_: object) -> Any:
            raise AssertionError("the plan was started")

        def ask(self) -> None:
            assert not parent.monitor_is_free, "what it uses could be taken apart"
            seen.append(f"asked {self.name}")

        def foresee(self) -> dict[str, Any]:
            assert parent.monitor_is_free
            seen.append(f"waited for {self.name}")
            return {"devices": [], "steps": []}

    parent = Parent(Work("one"), Work("two"))

    assert len(parent.dry_run()["calls"]) == 2
    assert seen == ["asked one", "asked two", "waited for one", "waited for two"]
    assert not parent.monitor_is_free
