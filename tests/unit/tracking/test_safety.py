"""Threads, hostile values, and faults of others."""

import gc
import logging
import threading
import weakref

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import DETAILS_KEPT, TaskAggregationPolicy, TaskTracker
from milonga.tracking._timer import TimerThread

OK = (ResultCode.OK, "ok")
DONE = TaskStatus.COMPLETED


class Mischief(BaseException):
    """What no `except Exception` catches."""


def raising(*_, **__):
    """Stand in for any method."""
    raise Mischief


HOSTILE_METHODS = [
    "__str__",
    "__repr__",
    "__eq__",
    "__ne__",
    "__hash__",
    "__int__",
    "__index__",
    "__float__",
    "__iter__",
    "__len__",
    "__bool__",
    "__contains__",
    "__getattr__",
    "__getitem__",
    "__format__",
    "__lt__",
    "__gt__",
    "__le__",
    "__ge__",
    "__next__",
    "__floor__",
]


def hostile_kind(name, *bases):
    """Make a class whose every method raises, and that lies about what it is."""
    body = dict.fromkeys(HOSTILE_METHODS, raising) | {"__class__": property(raising)}
    return type(name, bases, body)


HOSTILE = {
    "Hostile": hostile_kind("Hostile")(),
    "HostileText": hostile_kind("HostileText", str)("COMPLETED"),
    "HostileInt": hostile_kind("HostileInt", int)(5),
    "HostileFloat": hostile_kind("HostileFloat", float)(5.0),
    "HostileList": hostile_kind("HostileList", list)([1, 2]),
    "HostileTuple": hostile_kind("HostileTuple", tuple)((3, "x")),
    "HostileDict": hostile_kind("HostileDict", dict)({"a": 1}),
    "HostileBytes": hostile_kind("HostileBytes", bytes)(b"x"),
    "HostileError": hostile_kind("HostileError", Exception)("x"),
}
FIELDS = [
    "status",
    "progress",
    "result",
    "error",
    "device_name",
    "devices",
    "failed_devices",
    "operation",
    "obs_mode",
    "source",
    "health_state",
    "counts",
    "foo",
]


WRAPPED = {
    "bare": lambda value: value,
    "list": lambda value: [value],
    "pair": lambda value: (3, value),
    "twice": lambda value: (value, value),
}


# By name: pytest itself would not survive these values as parameters.
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("shape", WRAPPED)
def test_no_value_makes_an_update_raise(kind, shape, listener):
    """TH-02: whatever its methods do; and the task can still end."""
    value, wrap = HOSTILE[kind], WRAPPED[shape]
    tracker = TaskTracker("t", 1, listener)
    for field in FIELDS:
        tracker.update_task(task_name="a", **{field: wrap(value)})
        tracker.update_task(task_name=wrap(value), **{field: wrap(value)})
    tracker.update_task(task_name="a", status=DONE, result=OK)
    tracker.update_task(task_name="a", **{field: wrap(value) for field in FIELDS})

    assert tracker.wait_for_task_completion(timeout=30)
    assert len(listener.calls) == 1
    assert not any("tracking of" in call["result"][1] for call in listener.completions)


def test_a_persons_interrupt_gets_through():
    """TH-02: Ctrl-C is not swallowed, and the tracker goes on."""

    class Interrupting:
        def __str__(self):
            raise KeyboardInterrupt

    tracker = TaskTracker("t", 1)
    with pytest.raises(KeyboardInterrupt):
        tracker.update_task(task_name="a", result=Interrupting())
    tracker.update_task(task_name="a", status=DONE, result=OK)

    assert tracker.get_result() is ResultCode.OK


def test_counts_are_exact_with_many_threads(listener):
    """TH-01: 64 threads, 16 subtasks each, several updates per subtask."""
    tracker = TaskTracker("t", 64 * 16, listener)
    barrier = threading.Barrier(64)

    def work(thread):
        barrier.wait()
        for number in range(16):
            name, bad = f"s{thread}-{number}", number % 4 == 0
            tracker.update_task(task_name=name, status="QUEUED")
            tracker.update_task(task_name=name, status="IN_PROGRESS", progress=50)
            result = (3, "bad") if bad else OK
            tracker.update_task(task_name=name, status=DONE, result=result, device_name=name)
            tracker.update_task(task_name=name, status=DONE, result=result)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = tracker.statistics()
    assert found.updates == 64 * 16 * 3
    assert found.updates + found.duplicate + found.late == 64 * 16 * 4
    assert listener.completions[0]["counts"]["failed"] == 64 * 4
    assert len(listener.completions) == 1
    assert len(listener.last["failed_devices"]) == 64 * 4


class Broken(TaskAggregationPolicy):
    """A policy with a bug."""

    def aggregate(self, *_):
        """Fail."""
        raise ZeroDivisionError("in the policy")


@pytest.mark.parametrize("later", [True, False])
def test_a_fault_inside_ends_the_task_as_failed(later, listener, timer, caplog):
    """TH-03, TH-04: with its text, once, also in a timer's thread; and then it is closed."""
    tracker = TaskTracker("t", 1, listener, policy_factory=Broken, call_later=timer)
    tracker.update_task(task_name="a", status=DONE, result=None if later else OK)
    timer.expire()

    assert tracker.wait_for_task_completion(timeout=0)
    assert listener.last["status"] is TaskStatus.FAILED
    assert listener.last["result"] == (
        ResultCode.FAILED,
        "tracking of t failed: ZeroDivisionError: in the policy",
    )
    assert listener.last["health_state"] == "FAILED"
    assert any(record.exc_info for record in caplog.records)
    tracker.update_task(task_name="b", status=DONE, result=OK)
    assert len(listener.calls) == 1
    assert tracker.get_status() is TaskStatus.FAILED


@pytest.mark.parametrize("answer", [None, "COMPLETED", 5, object()])
def test_a_policy_that_answers_nonsense_is_a_fault(answer, listener):
    """TH-03: also a status that is not final."""

    class Nonsense:
        def aggregate(self, *_):
            return answer

    tracker = TaskTracker("t", 1, listener, policy_factory=lambda *_: Nonsense())
    tracker.update_task(task_name="a", status=DONE, result=OK)

    assert listener.last["result"][0] is ResultCode.FAILED
    assert "expected an AggregationOutcome" in listener.last["result"][1]


def test_a_clock_that_fails_is_a_fault(listener):
    """TH-03: whatever it is that breaks, waiters wake."""

    def stopped():
        raise Mischief("no time")

    tracker = TaskTracker("t", 2, listener, clock=stopped)
    tracker.update_task(task_name="a", status=DONE, result=OK)

    assert tracker.wait_for_task_completion(timeout=0)
    assert listener.last["result"][1] == "tracking of t failed: Mischief: no time"


class NoisyHandler(logging.Handler):
    """A handler that looks at a tracker from another thread, and then breaks."""

    def __init__(self, look):
        super().__init__()
        self.look = look
        self.seen = []

    def emit(self, *_):
        """Look, and fail."""
        other = threading.Thread(target=lambda: self.seen.append(self.look()))
        other.start()
        other.join(10)
        raise Mischief


def test_no_lock_is_held_while_logging(listener):
    """TH-05: and a logger that raises is survived."""
    logger = logging.getLogger("noisy")
    logger.setLevel(logging.DEBUG)
    tracker = TaskTracker("t", 1, listener, logger)
    handler = NoisyHandler(tracker.get_status)
    logger.addHandler(handler)
    tracker.update_task(task_name="")
    tracker.update_task(task_name="a", status="what")
    for _ in range(2):
        tracker.update_task(task_name="a", status=DONE, result=OK)
    tracker.update_task(task_name="new", status=DONE)

    logger.removeHandler(handler)

    assert len(handler.seen) == 4
    assert len(listener.calls) == 1


def test_no_lock_is_held_while_a_policy_judges():
    """TH-05: nor while one is made."""
    seen = []

    def look():
        other = threading.Thread(target=lambda: seen.append(trackers[0].get_status()))
        other.start()
        other.join(10)

    class Looking(TaskAggregationPolicy):
        def __init__(self, *context):
            super().__init__(*context)
            if trackers:
                look()

        def aggregate(self, subtasks, /):
            look()
            return super().aggregate(subtasks)

    trackers = []
    trackers.append(TaskTracker("t", 1, policy_factory=Looking))
    trackers[0].update_task(task_name="a", status="IN_PROGRESS", obs_mode="IMAGING")
    trackers[0].update_task(task_name="a", status=DONE, result=OK)

    assert seen == [TaskStatus.IN_PROGRESS] * 3


def test_two_trackers_that_tell_each_other_do_not_lock_up():
    """TH-05, A-8: a lock-order inversion would hang here."""
    for _ in range(50):
        pair = [TaskTracker("one", 1), TaskTracker("two", 1)]
        pair[0].set_completed_callback(pair[1].parent_callback())
        pair[1].set_completed_callback(pair[0].parent_callback())
        barrier = threading.Barrier(2)

        def end(tracker, barrier=barrier):
            barrier.wait()
            tracker.update_task(task_name="a", status=DONE, result=OK)

        threads = [threading.Thread(target=end, args=(tracker,)) for tracker in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert all(tracker.wait_for_task_completion(timeout=0) for tracker in pair)


def factory_that_raises(*_):
    """Fail as a factory may."""
    raise RuntimeError("no rules")


@pytest.mark.parametrize("factory", [factory_that_raises, lambda *_: None, lambda *_: 5, 7])
def test_a_constructor_does_not_fail_because_of_the_policy(factory, listener, caplog):
    """TH-06: it goes on with a policy that knows no devices, and says so."""
    tracker = TaskTracker("t", 2, listener, policy_factory=factory)
    tracker.update_task(task_name="a", status=DONE, result=(3, "bad"), device_name="cbf/1")
    tracker.update_task(task_name="b", status=DONE, result=OK, obs_mode="IMAGING")

    assert listener.last["status"] is DONE
    assert listener.last["result"] == (ResultCode.FAILED, "cbf/1: bad")
    assert "minimal policy" in caplog.text


def test_the_listener_is_let_go():
    """TH-07: also one that raised, and the timer and factory that were used."""

    class Owner:
        def told(self, **_):
            raise ValueError("x")

        def later(self, *_):
            return self

        def cancel(self):
            pass

        def make(self, *context):
            return TaskAggregationPolicy(*context)

    # pytest keeps log records, these have tracebacks, and these have frames.
    quiet = logging.getLogger("quiet")
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    owner = Owner()
    tracker = TaskTracker(
        "t", 1, owner.told, quiet, policy_factory=owner.make, call_later=owner.later
    )
    tracker.update_task(task_name="a", status=DONE)
    tracker.update_task(task_name="a", result=OK)
    gone = weakref.ref(owner)
    del owner
    gc.collect()

    assert gone() is None
    assert tracker.callback_error is not None


def test_details_of_a_large_finished_task_are_let_go(listener):
    """TH-07: counters and unhappy subtasks stay."""
    total = DETAILS_KEPT + 10
    tracker = TaskTracker("t", total, listener)
    for number in range(total):
        result = (3, "bad") if number == 7 else OK
        tracker.update_task(task_name=f"s{number}", status=DONE, result=result)

    assert list(tracker.subtasks) == ["s7"]
    assert tracker.subtask_progress == {}
    assert tracker.completed_subtasks == total
    assert listener.last["counts"]["ok"] == total - 1
    tracker.update_task(task_name="s3", status=DONE)
    assert (tracker.statistics().late, tracker.statistics().unknown) == (1, 0)


def test_details_of_a_small_finished_task_stay():
    """TH-07: so that a person can look which child was slow."""
    tracker = TaskTracker("t", 2)
    for name in ("a", "b"):
        tracker.update_task(task_name=name, status=DONE, result=OK)

    assert set(tracker.subtasks) == {"a", "b"}


def test_a_tracker_makes_no_thread():
    """One per process, and only while a result is awaited."""
    for thread in threading.enumerate():
        if thread.name == "milonga-tracking-timer":  # of an earlier test
            thread.join(30)
    before = set(threading.enumerate())
    trackers = [TaskTracker("t", 1) for _ in range(50)]
    for tracker in trackers:
        tracker.update_task(task_name="a", status="IN_PROGRESS")
    assert set(threading.enumerate()) <= before
    for tracker in trackers:
        tracker.update_task(task_name="a", status=DONE)
    made = set(threading.enumerate()) - before
    assert [thread.name for thread in made] == ["milonga-tracking-timer"]
    for tracker in trackers:
        tracker.update_task(task_name="a", result=OK)

    for thread in made:
        thread.join(30)
    assert set(threading.enumerate()) <= before


def test_the_timer_calls_in_order_and_forgets_what_was_cancelled():
    """A call that raises does not hurt the next."""
    timer, called, done = TimerThread(), [], threading.Event()

    def broken():
        called.append("broken")
        raise Mischief

    cancelled = timer.call_later(0.45, lambda: called.append("cancelled"))
    timer.call_later(0.5, lambda: called.append("second"))
    timer.call_later(0.51, done.set)
    timer.call_later(0.0, broken)
    cancelled.cancel()
    cancelled.cancel()

    assert done.wait(30)
    assert called == ["broken", "second"]
