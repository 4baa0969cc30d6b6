"""Statuses: one end, once, in time, and no thread of their own."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from typing import Any

import pytest
from bluesky import protocols
from ophyd_async.core import AsyncStatus

from milonga.control_model import ResultCode, TaskStatus
from milonga.engine import (
    BlueskyException,
    InvalidState,
    Status,
    StatusTimeoutError,
    UnknownStatusFailure,
    WaitTimeoutError,
    report_status,
)
from milonga.engine._scheduler import scheduler

from .conftest import our_threads, until


def test_it_is_a_status_for_bluesky() -> None:
    """ST-01: and its times are floats."""
    status = Status(settle_time=None)
    assert isinstance(status, protocols.Status)
    assert (status.timeout, status.settle_time) == (None, 0.0)
    assert isinstance(Status(timeout=0).timeout, float)


def test_what_it_says_cannot_be_set() -> None:
    """ST-02: five properties."""
    status = Status()
    for name in ("timeout", "settle_time", "done", "success", "callbacks"):
        with pytest.raises(AttributeError):
            setattr(status, name, 1)


def test_it_is_done_when_it_is_finished() -> None:
    """ST-03, ST-04, ST-05: for ever."""
    status = Status()
    assert (status.done, status.success) == (False, False)
    status.set_finished()
    status.wait(1.0)
    assert (status.done, status.success) == (True, True)
    assert status.exception(1.0) is None


def test_it_settles_before_it_is_done() -> None:
    """ST-05: for the time that it was given."""
    status = Status(settle_time=0.2)
    began = time.monotonic()
    status.set_finished()
    assert not status.done
    status.wait(5.0)
    assert time.monotonic() - began >= 0.2


def test_a_failure_does_not_settle() -> None:
    """ST-06, ST-04: done at once, no success."""
    status = Status(settle_time=10.0)
    status.set_exception(ValueError("no"))
    assert (status.done, status.success) == (True, False)


@pytest.mark.parametrize("first", ["finished", "failed"])
@pytest.mark.parametrize("second", ["finished", "failed"])
@pytest.mark.parametrize("settle", [0.0, 0.3])
def test_an_end_is_reported_once(first: str, second: str, settle: float) -> None:
    """ST-07: all four orders, and while it settles."""

    def report(status: Status, end: str) -> None:
        if end == "finished":
            status.set_finished()
        else:
            status.set_exception(ValueError())

    status = Status(settle_time=settle)
    report(status, first)
    with pytest.raises(InvalidState):
        report(status, second)


def test_what_is_no_exception_is_refused() -> None:
    """ST-08: the status is as it was; a class is instantiated."""
    status = Status()
    for wrong in ("text", 1, int, UnicodeDecodeError):
        with pytest.raises(ValueError, match="expected an exception"):
            status.set_exception(wrong)  # type: ignore[arg-type]
    status.set_exception(KeyError)
    assert isinstance(status.exception(1.0), KeyError)


def test_its_own_timeouts_cannot_be_reported() -> None:
    """ST-09: but any other `TimeoutError` can."""
    status = Status()
    for wrong in (StatusTimeoutError("x"), WaitTimeoutError("x"), StatusTimeoutError):
        with pytest.raises(ValueError, match="only a status"):
            status.set_exception(wrong)
    status.set_exception(TimeoutError("mine"))
    assert str(status.exception(1.0)) == "mine"


@pytest.mark.parametrize("timeout", [0.05, 0.0, -1.0])
def test_silence_is_a_timeout(timeout: float) -> None:
    """ST-10: done, without success."""
    status = Status(timeout=timeout, name="motor")
    assert isinstance(status.exception(5.0), StatusTimeoutError)
    assert status.done
    assert "motor" in str(status.exception())


@pytest.mark.parametrize("late", ["finished", "failed"])
def test_a_report_after_the_timeout_is_ignored_once(late: str) -> None:
    """ST-11: a second one is too much, and the outcome stays."""
    status = Status(timeout=0.0)
    assert isinstance(status.exception(5.0), StatusTimeoutError)
    if late == "finished":
        status.set_finished()
    else:
        status.set_exception(ValueError())
    with pytest.raises(InvalidState):
        status.set_finished()
    assert isinstance(status.exception(), StatusTimeoutError)


class Clock:
    """Stands in for `time.monotonic` where a status looks at it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.mark.parametrize(("reported", "well"), [(0.05, True), (0.1, True), (0.2, False)])
def test_the_report_must_come_within_the_timeout(
    monkeypatch: pytest.MonkeyPatch, reported: float, *, well: bool
) -> None:
    """ST-12: the settle time comes on top of it, the boundary is in time."""
    clock = Clock()
    clock.now = 0.0
    status = Status(timeout=0.1, settle_time=0.3)
    monkeypatch.setattr(status, "_started", 0.0)
    monkeypatch.setattr("milonga.engine._status.time.monotonic", clock)
    clock.now = reported
    status.set_finished()
    monkeypatch.undo()
    error = status.exception(5.0)
    assert (error is None) is well
    with pytest.raises(InvalidState):
        status.set_finished()


def test_waiting_has_its_own_timeout() -> None:
    """ST-13, ST-14: which the status does not notice; all waiters wake."""
    status = Status()
    for wait in (status.wait, status.exception):
        with pytest.raises(WaitTimeoutError):
            wait(0.01)
    assert not status.done
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiters = [pool.submit(status.wait, 5.0) for _ in range(4)]
        status.set_exception(ValueError("stuck"))
        for waiter in waiters:
            with pytest.raises(ValueError, match="stuck"):
                waiter.result(5.0)


def test_callbacks_are_called_once_and_in_order() -> None:
    """ST-15, ST-18: later in another thread, or at once in the caller's."""
    status = Status()
    calls: list[tuple[int, str, bool]] = []
    ended = threading.Event()

    def note(number: int) -> None:
        calls.append((number, threading.current_thread().name, status.done))

    for number in (1, 2):
        status.add_callback(lambda _, number=number: note(number))
    status.add_callback(lambda _: ended.set())
    assert len(status.callbacks) == 3
    status.set_finished()
    assert ended.wait(5.0)
    status.add_callback(lambda _: note(3))

    assert [number for number, _, _ in calls] == [1, 2, 3]
    assert calls[0][1].startswith("milonga-engine-callbacks")
    assert calls[2][1] == threading.current_thread().name
    assert all(done for _, _, done in calls)
    assert not status.callbacks


def test_a_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """ST-16, B-18: the others still run; a late one also raises to its caller, without a lock."""
    status, ended = Status(name="motor"), threading.Event()

    def bad(found: Status) -> None:
        found.add_callback(lambda _: None)  # takes the lock, so it must be free
        raise ValueError("bad callback")

    status.add_callback(bad)
    status.add_callback(lambda _: ended.set())
    status.set_finished()
    assert ended.wait(5.0)
    with pytest.raises(ValueError, match="bad callback"):
        status.add_callback(bad)
    assert len([each for each in caplog.records if "motor" in each.getMessage()]) == 2


def test_subclasses_have_hooks(caplog: pytest.LogCaptureFixture) -> None:
    """ST-17, ST-18: settled, done, failure, callbacks; what they raise is logged."""
    order: list[tuple[str, bool]] = []
    ended = threading.Event()

    class Hooked(Status):
        def _settled(self) -> None:
            order.append(("settled", self.done))
            raise ValueError("hook")

        def _handle_failure(self) -> None:
            order.append(("failure", self.done))

    status = Hooked()
    status.add_callback(lambda found: order.append(("callback", found.done)))
    status.add_callback(lambda _: ended.set())
    status.set_exception(OSError())
    assert ended.wait(5.0)
    assert order == [("settled", False), ("failure", True), ("callback", True)]
    assert "hook" in caplog.text


def test_only_a_timeout_that_decided_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """ST-19, B-17: as a warning."""
    won = Status(timeout=0.5, name="won")
    won.set_exception(OSError())
    lost = Status(timeout=0.6, name="late")  # when the time of the other one is up as well
    assert isinstance(lost.exception(5.0), StatusTimeoutError)

    def levels(name: str) -> list[int]:
        return [each.levelno for each in caplog.records if repr(name) in each.getMessage()]

    until(lambda: levels("late"))
    assert levels("late") == [logging.WARNING]
    assert levels("won") == []


def test_any_thread_may_report() -> None:
    """ST-20: of many reports exactly one counts."""
    for _ in range(200):
        status = Status(timeout=10.0)
        barrier = threading.Barrier(4)
        refused: list[InvalidState] = []

        def report(status: Status = status, barrier: Any = barrier, refused: Any = refused) -> None:
            barrier.wait(5.0)
            try:
                status.set_finished()
            except InvalidState as error:
                refused.append(error)

        threads = [threading.Thread(target=report) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5.0)
        assert len(refused) == 3
        assert status.success


def test_ten_thousand_statuses_have_two_threads() -> None:
    """ST-21, B-15, B-16: and ending them empties the timer."""
    before, pending = our_threads(), scheduler.pending
    statuses = [Status(timeout=100.0, settle_time=0.0) for _ in range(10_000)]
    assert len(our_threads() - before) <= 2
    for status in statuses:
        status.set_finished()
    assert scheduler.pending <= pending
    assert len(scheduler._timers) < 200


def test_a_status_is_cheap() -> None:
    """ST-21: less than 10 us on a quiet machine; the best of several tries counts."""
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(500):
            Status(timeout=100.0).set_finished()
        best = min(best, (time.perf_counter() - began) / 500)
    assert best < 30e-6, "three times the budget, since the machine may be busy"


def test_its_text_says_what_it_is() -> None:
    """ST-22: name, state, time, exception."""

    class Device:
        name = "slit"

    status = Status(obj=Device(), timeout=5.0)
    assert "'slit': pending after" in repr(status)
    assert "timeout 5 s" in repr(status)
    status.set_exception(ValueError("stuck"))
    assert "failed, ValueError('stuck')" in repr(status)
    settling = Status(settle_time=0.3)
    settling.set_finished()
    assert "settling" in repr(settling)


def test_statuses_can_be_combined() -> None:
    """ST-23: both, or any."""
    one, two = Status(), Status()
    both, either = one & two, Status.any_of([one, two])
    one.set_finished()
    either.wait(5.0)
    assert not both.done
    two.set_finished()
    both.wait(5.0)

    bad = Status()
    failing = Status() & bad
    bad.set_exception(OSError("no"))
    assert isinstance(failing.exception(5.0), OSError)
    with pytest.raises(ValueError, match="at least one"):
        Status.any_of([])


def test_progress_can_be_watched() -> None:
    """ST-23: one that raises does not hurt the others; a late one gets the latest."""
    status = Status()
    seen: list[float] = []

    def bad(**_: Any) -> None:
        raise ValueError("bad watcher")

    status.watch(bad)
    status.watch(lambda *, fraction: seen.append(fraction))
    status.report_progress(fraction=0.5)
    status.watch(lambda *, fraction: seen.append(-fraction))
    assert seen == [0.5, -0.5]


def test_a_status_is_the_work_of_a_leaf() -> None:
    """IN-07: its progress never goes back, its end has the words of the device."""
    told: list[dict[str, Any]] = []
    ended = threading.Event()

    def on_update(**update: Any) -> None:
        told.append(update)
        if "result" in update:
            ended.set()

    status = Status(name="move")
    report_status(status, on_update)
    status.report_progress(name="move", current=4.0, initial=2.0, target=6.0)
    status.report_progress(fraction=0.4)
    status.report_progress(name="move", current="somewhere")
    status.report_progress(fraction=1.0)
    status.set_finished()
    assert ended.wait(5.0)

    assert told[0] == {"status": TaskStatus.IN_PROGRESS}
    assert [each["progress"] for each in told[1:]] == [50, 99, 100]
    assert told[-1]["result"] == (ResultCode.OK, "completed")

    ended.clear()
    report_status(Status(name="move", timeout=0.01), on_update)
    assert ended.wait(5.0)
    assert told[-1]["status"] is TaskStatus.FAILED
    assert told[-1]["result"][1].startswith("timed out: StatusTimeoutError: move was not")


def test_a_status_can_be_awaited() -> None:
    """ST-23: from any loop; and be made from futures and other statuses."""

    async def main() -> list[Any]:
        status = Status()
        asyncio.get_running_loop().call_soon(status.set_finished)
        await asyncio.wait_for(_await(status), 5.0)
        failing = Status.from_future(asyncio.ensure_future(_raise()))
        return [status.success, await _outcome(failing)]

    async def _await(status: Status) -> None:
        await status

    async def _raise() -> None:
        raise OSError("from a task")

    async def _outcome(status: Status) -> str:
        try:
            await status
        except OSError as error:
            return str(error)
        return "no error"

    assert asyncio.run(main()) == [True, "from a task"]


def test_futures_and_other_statuses_can_be_followed() -> None:
    """ST-23: a timeout of the other one is a plain timeout here."""
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    status = Status.from_future(future)
    future.cancel()
    future.set_running_or_notify_cancel()
    assert isinstance(status.exception(5.0), concurrent.futures.CancelledError)

    source = Status(timeout=0.0)
    follower = Status.from_async_status(source)
    assert isinstance(follower.exception(5.0), TimeoutError)
    assert not isinstance(follower.exception(), StatusTimeoutError)
    with pytest.raises(TimeoutError):
        source.as_future().result(5.0)


def test_a_status_of_ophyd_async_can_be_followed() -> None:
    """ST-23: it lives in an event loop."""

    async def main() -> bool:
        status = Status.from_async_status(AsyncStatus(asyncio.sleep(0)))
        await status
        return status.success

    assert asyncio.run(main())


def test_waiting_often_does_not_grow_the_traceback() -> None:
    """ST-24, B-19: the depth is the same after fifty waits."""
    status = Status()
    status.set_exception(ValueError("no"))
    depths = set()
    for _ in range(50):
        try:
            status.wait(1.0)
        except ValueError as error:
            depth, frame = 0, error.__traceback__
            while frame is not None:
                depth, frame = depth + 1, frame.tb_next
            depths.add(depth)
    assert len(depths) == 1


def test_a_fault_while_settling_can_count() -> None:
    """ST-25, B-20: if the status was made so."""
    status = Status(settle_time=10.0, fail_during_settle=True)
    status.set_finished()
    status.set_exception(OSError("moved on"))
    assert isinstance(status.exception(1.0), OSError)
    with pytest.raises(InvalidState):
        status.set_exception(OSError())


def test_the_exceptions_have_their_bases() -> None:
    """ST-26: the two timeouts are strangers."""
    assert issubclass(InvalidState, RuntimeError)
    assert issubclass(StatusTimeoutError, TimeoutError)
    assert issubclass(WaitTimeoutError, TimeoutError)
    for kind in (InvalidState, StatusTimeoutError, WaitTimeoutError, UnknownStatusFailure):
        assert issubclass(kind, BlueskyException)
    assert not issubclass(StatusTimeoutError, WaitTimeoutError)
    assert not issubclass(WaitTimeoutError, StatusTimeoutError)


def test_blocked_callbacks_do_not_stop_other_statuses() -> None:
    """ST-20: a few threads share them."""
    hold, called = threading.Event(), threading.Event()
    blocked = Status()
    blocked.add_callback(lambda _: hold.wait(10.0))
    blocked.set_finished()
    other = Status()
    other.add_callback(lambda _: called.set())
    other.set_finished()
    assert called.wait(5.0)
    hold.set()
