"""Engines, devices and plans for the tests; all are real, and small."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bluesky.plan_stubs import checkpoint, close_run, null, open_run, sleep
from bluesky.preprocessors import finalize_wrapper
from bluesky.utils import Msg

from milonga.engine import RunEngine, Status, shutdown
from milonga.engine._loop import _Leases


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    """Make an engine that is shut down afterwards."""
    engine = RunEngine()
    yield engine
    assert engine.shutdown(10.0)


@pytest.fixture(autouse=True, scope="module")
def nothing_stays() -> Iterator[None]:
    """No thread of ours outlives the tests of a module."""
    before = our_threads()
    yield
    assert shutdown(10.0)
    gc.collect()  # an engine that was forgotten gives its loop back when it is collected
    try:
        until(lambda: our_threads() <= before)
    except AssertionError:
        pytest.fail(f"threads that outlive the module: {our_threads() - before}")


@pytest.fixture
def no_other_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share the event loop with nobody; devices of other tests hold a lease until the end."""
    monkeypatch.setattr("milonga.engine._loop._leases", _Leases())


def our_threads() -> set[threading.Thread]:
    """Return the threads of engines that live now."""
    return {thread for thread in threading.enumerate() if _is_ours(thread)}


def _is_ours(thread: threading.Thread) -> bool:
    """Tell the engine's threads from those of links that tests of other rooms have made."""
    return thread.name.startswith(("milonga", "bluesky")) and not thread.name.startswith(
        ("milonga-call", "milonga-look", "milonga-abort", "milonga-links")
    )


def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until a condition holds, or fail."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)  # what is waited for has no event


class Documents:
    """Keeps the documents of runs."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []
        self.threads: set[str] = set()

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        """Take a document."""
        self.threads.add(threading.current_thread().name)
        self.all.append((name, document))

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the documents of one kind."""
        return [document for each, document in self.all if each == name]


@pytest.fixture
def documents(engine: RunEngine) -> Documents:
    """Keep what the engine emits."""
    kept = Documents()
    engine.subscribe(kept)
    return kept


class Detector:
    """Counts how often it was read; may take time, and may keep readings."""

    parent = None

    def __init__(self, name: str = "det", reading: float = 0.0) -> None:
        self.name = name
        self.count = 0
        self.reading = reading
        self.kept: list[Any] = []
        self.cleared = 0

    def trigger(self) -> Status:
        """Take a picture."""
        status = Status(name=f"{self.name} trigger", settle_time=self.reading)
        status.set_finished()
        return status

    def read(self) -> dict[str, Any]:
        """Return the count."""
        self.count += 1
        return {f"{self.name}-count": {"value": self.count, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        """Say what is read."""
        return {f"{self.name}-count": {"dtype": "integer", "shape": [], "source": "test"}}

    def read_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Say nothing."""
        return {}

    def stash(self, values: dict[str, Any]) -> Any:
        """Keep readings."""
        self.kept.append(values)
        status = Status(name="stash")
        status.set_finished()
        return status

    def clear(self) -> Any:
        """Drop them."""
        self.cleared += 1
        status = Status(name="clear")
        status.set_finished()
        return status


class Motor:
    """Moves when the test says so; can be stopped."""

    parent = None

    def __init__(self, name: str = "motor") -> None:
        self.name = name
        self.moves: list[Status] = []
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.stopped = 0
        self.paused = self.resumed = 0

    def set(self, value: Any, **options: Any) -> Status:
        """Start to move."""
        status = Status(name=f"{self.name} to {value}")
        self.asked.append((value, options))
        self.moves.append(status)
        return status

    def stop(self, success: bool = True) -> None:
        """Count the stops."""
        self.stopped += 1

    def pause(self) -> None:
        """Count the pauses."""
        self.paused += 1

    async def resume(self) -> None:
        """Count the resumes."""
        await asyncio.sleep(0)
        self.resumed += 1


class Flag:
    """What a plan and its test tell each other."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.cleaned = False
        self.turns = 0
        self.blocked = 0.0


def endless(flag: Flag | None = None) -> Iterator[Msg]:
    """Go on for ever, with checkpoints."""
    while True:
        yield from checkpoint()
        yield from sleep(0.001)
        if flag is not None:
            flag.turns += 1
            flag.began.set()


def in_run(flag: Flag) -> Iterator[Msg]:
    """Go on for ever within a run, and clean up."""

    def body() -> Iterator[Msg]:
        yield from open_run()
        yield from endless(flag)
        yield from close_run()

    def cleanup() -> Iterator[Msg]:
        flag.cleaned = True
        yield from null()

    yield from finalize_wrapper(body(), cleanup)
