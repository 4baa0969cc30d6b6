"""The parts of foreign children that need no device."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import Expectation, child_device
from milonga.lrc._foreign_command import LONGEST_REPLY, reply_result
from milonga.lrc._lane import Lane
from milonga.lrc._network import Network
from milonga.lrc._recurring import Recurring
from milonga.lrc._watched import Sighting, WatchedAttribute


def reading(value: object, when: float) -> SimpleNamespace:
    """Return what a read or an event gives."""
    time = SimpleNamespace(totime=lambda: when)
    return SimpleNamespace(value=value, time=time, has_failed=False, is_empty=False, quality=None)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"reached": ()}, "reached: found no value"),
        ({"reached": ("ON",), "failed": ("on",)}, r"found \['on'\] in both"),
        ({"timeout": 0.0}, "timeout: found 0.0"),
        ({"timeout": float("inf")}, "timeout: found inf"),
    ],
)
def test_an_expectation_that_cannot_be_meant_is_refused(
    keywords: dict[str, object], text: str
) -> None:
    """When it is made, not when the command is called."""
    with pytest.raises(ValueError, match=text):
        Expectation(**keywords)  # type: ignore[arg-type]


def test_a_child_of_an_unknown_kind_is_refused() -> None:
    """So are times that are none."""
    with pytest.raises(ValueError, match="stat"):
        child_device("a/b/c", "stat")
    with pytest.raises(ValueError, match="period: found 0"):
        child_device("a/b/c", period=0)


@pytest.mark.parametrize(
    ("reply", "ska", "status", "code", "text"),
    [
        (None, False, TaskStatus.COMPLETED, ResultCode.OK, ""),
        ("done", False, TaskStatus.COMPLETED, ResultCode.OK, "returned done"),
        ([[3], ["no"]], True, TaskStatus.COMPLETED, ResultCode.FAILED, "answered FAILED: no"),
        ([[5], ["no"]], True, TaskStatus.REJECTED, ResultCode.REJECTED, "answered REJECTED: no"),
        ([[1], ["go"]], True, TaskStatus.COMPLETED, ResultCode.OK, "answered STARTED: go"),
        ([[3], ["no"]], False, TaskStatus.COMPLETED, ResultCode.OK, 'returned [[3], ["no"]]'),
        ([[99], ["x"]], True, TaskStatus.COMPLETED, ResultCode.OK, 'returned [[99], ["x"]]'),
    ],
)
def test_what_a_return_means(
    reply: object, ska: bool, status: TaskStatus, code: ResultCode, text: str
) -> None:
    """A code and a message only from a device that speaks so."""
    assert reply_result(reply, speaks_ska=ska) == (status, code, text)


def test_a_long_reply_is_cut() -> None:
    """Everything is bounded."""
    assert len(reply_result("x" * 100_000, speaks_ska=False)[2]) == LONGEST_REPLY + 1


def test_a_watcher_is_told_changes_only_and_never_an_older_value() -> None:
    """A read that was overtaken by an event must not undo it."""
    attribute = WatchedAttribute("a/b/c", "State")
    seen: list[object] = []
    attribute.add(lambda sighting: seen.append(sighting.value), 1.0)

    for value, when in [("OFF", 1.0), ("ON", 3.0), ("OFF", 2.0), ("ON", 4.0)]:
        attribute.take(reading(value, when))

    assert seen == ["OFF", "ON"]


def test_a_device_that_is_lost_has_no_value_and_may_come_back_with_another_clock() -> None:
    """The reason is told, and nothing of before is believed."""
    attribute = WatchedAttribute("a/b/c", "State")
    seen: list[Sighting] = []
    attribute.add(seen.append, 1.0)

    attribute.take(reading("ON", 100.0))
    attribute.lost("it fell")
    attribute.take(reading("ON", 1.0))

    assert [(s.value, s.connected, s.reason) for s in seen] == [
        ("ON", True, ""),
        (None, False, "it fell"),
        ("ON", True, ""),
    ]


def test_a_late_watcher_is_told_what_is_known_and_a_closed_one_nothing() -> None:
    """One that raises does not hurt the others."""
    attribute = WatchedAttribute("a/b/c", "State")
    seen: list[object] = []

    def fail(_: Sighting) -> None:
        raise RuntimeError("a watcher of somebody else's")

    attribute.add(fail, 1.0)
    attribute.take(reading("OFF", 1.0))
    watch = attribute.add(lambda sighting: seen.append(sighting.value), 0.25)
    assert attribute.period == 0.25
    attribute.tell()
    watch.close()
    watch.close()
    attribute.take(reading("ON", 2.0))

    assert seen == ["OFF"]
    assert watch.sighting is not None
    assert watch.sighting.value == "ON"


def test_watchers_are_told_in_order_from_many_threads() -> None:
    """One at a time: what one thread adds while another tells, that one tells too."""
    attribute = WatchedAttribute("a/b/c", "count")
    seen: list[object] = []
    inside = threading.Semaphore(1)

    def watch(sighting: Sighting) -> None:
        assert inside.acquire(blocking=False)
        seen.append(sighting.value)
        inside.release()

    attribute.add(watch, 1.0)
    order = threading.Lock()
    clock = iter(range(1, 401))

    def work() -> None:
        for _ in range(100):
            with order:
                now = next(clock)
                attribute.take(reading(now, float(now)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    attribute.tell()

    assert seen == list(range(1, 401))


@pytest.fixture
def network() -> Network:
    """Return a network of this test's own."""
    return Network()


def test_what_recurs_never_runs_twice_at_a_time_and_misses_no_wake(network: Network) -> None:
    """A wake during a run is one more run; stop is stop."""
    running, may_go, runs = threading.Event(), threading.Event(), threading.Semaphore(0)
    count: list[int] = []

    def look() -> float | None:
        count.append(1)
        running.set()
        assert may_go.wait(5.0)
        runs.release()
        return None

    recurring = Recurring(network, look)
    recurring.wake()
    assert running.wait(5.0)
    for _ in range(5):
        recurring.wake()
    may_go.set()
    assert runs.acquire(timeout=5.0)
    assert runs.acquire(timeout=5.0)
    recurring.stop()
    recurring.wake()
    network.close()

    assert len(count) == 2


def test_what_recurs_comes_again_by_itself(network: Network) -> None:
    """After the seconds that it returned, until it returns nothing."""
    delays = [0.001, 0.001, None]
    done = threading.Event()

    def look() -> float | None:
        delay = delays.pop(0)
        if delay is None:
            done.set()
        return delay

    Recurring(network, look).wake()

    assert done.wait(5.0)
    network.close()
    assert delays == []


def test_a_lane_runs_in_order_on_one_thread_that_does_not_stay() -> None:
    """A call that raises does not hurt the next; a closed lane takes nothing."""
    lane = Lane("test-lane")
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def note(number: int) -> Callable[[], None]:
        def call() -> None:
            seen.append((number, threading.current_thread().name))
            if number == 3:
                done.set()
            if number == 1:
                raise RuntimeError("one that fails")

        return call

    for number in range(4):
        assert lane.add(note(number))
    assert done.wait(5.0)
    assert lane.join(5.0)
    lane.close()

    assert seen == [(number, "test-lane") for number in range(4)]
    assert not lane.add(note(9))
    assert lane.wait_closed(0.0)


def test_a_lane_is_bounded() -> None:
    """More than so many waiting calls are refused."""
    lane, hold = Lane("test-lane"), threading.Event()
    begun = threading.Event()

    def first() -> None:
        begun.set()
        hold.wait(5.0)

    lane.add(first)
    assert begun.wait(5.0)
    taken = [lane.add(lambda: None) for _ in range(Lane.MAX_WAITING + 1)]
    hold.set()

    assert taken == [True] * Lane.MAX_WAITING + [False]
    assert lane.join(5.0)
