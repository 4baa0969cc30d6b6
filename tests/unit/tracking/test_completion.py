"""When a task is over, who is told, and who wakes."""

import logging
import threading
import time

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import TaskTracker
from milonga.tracking._waiting import wait_for_either

OK = (ResultCode.OK, "ok")
DONE = TaskStatus.COMPLETED
RUNNING = TaskStatus.IN_PROGRESS


def finish(tracker, *names, result=OK):
    """End subtasks."""
    for name in names:
        tracker.update_task(task_name=name, status=DONE, result=result)


def test_a_task_is_over_when_all_declared_subtasks_are(listener):
    """TT-11, A-2: not when all that were heard of are."""
    tracker = TaskTracker("t", 3, listener)
    finish(tracker, "a")
    assert tracker.get_status() is RUNNING
    finish(tracker, "b")
    assert listener.calls == []

    finish(tracker, "c")

    assert tracker.get_status() is DONE
    assert len(listener.calls) == 1


@pytest.mark.parametrize("total", [0, -2])
def test_a_task_without_subtasks_is_over_at_once(total, listener):
    """TT-12, A-1: and it says so, once."""
    tracker = TaskTracker("t", total, listener)

    assert tracker.wait_for_task_completion(timeout=0)
    assert (tracker.get_status(), tracker.get_result()) == (DONE, ResultCode.OK)
    assert (tracker.progress, tracker._is_done) == (100, True)
    assert [call["task_name"] for call in listener.calls] == ["t"]
    assert listener.last["counts"] == dict.fromkeys(
        ("ok", "failed", "rejected", "aborted", "total"), 0
    )


def test_a_task_without_subtasks_tells_a_callback_that_comes_later(listener):
    """TT-12, TT-26."""
    tracker = TaskTracker("t", 0)
    tracker.set_completed_callback(listener)
    tracker.set_completed_callback(listener)

    assert len(listener.calls) == 1


def test_an_undeclared_subtask_at_work_holds_the_end_back(listener, caplog):
    """TT-13: one warning, and progress stays within bounds."""
    tracker = TaskTracker("t", 1, listener)
    tracker.update_task(task_name="a", status=RUNNING, progress=100)
    tracker.update_task(task_name="b", status=RUNNING)
    assert tracker.progress == 50
    finish(tracker, "a")
    assert listener.calls == []

    finish(tracker, "b")

    assert len(listener.calls) == 1
    assert listener.last["counts"]["total"] == 2
    assert sum("more subtasks" in text for text in caplog.messages) == 1


def test_many_threads_make_one_completion(listener):
    """TT-14: 64 threads race with the last updates; waiters see the callback returned."""
    for _ in range(20):
        tracker = TaskTracker("t", 8, listener)
        barrier = threading.Barrier(64)

        def race(number, tracker=tracker, barrier=barrier):
            barrier.wait()
            finish(tracker, f"s{number % 8}")

        threads = [threading.Thread(target=race, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        assert tracker.wait_for_task_completion(timeout=30)
        assert len(listener.calls) == 1
        for thread in threads:
            thread.join()
        assert len(listener.calls) == 1
        listener.calls.clear()


def test_waiters_wake_after_the_callback_returned():
    """TT-14: first told, then signalled."""
    seen = []
    tracker = TaskTracker(
        "t", 1, lambda **_: seen.append(tracker.wait_for_task_completion(timeout=0))
    )
    finish(tracker, "a")

    assert seen == [False]
    assert tracker.wait_for_task_completion(timeout=0)


def test_without_a_callback_only_the_event_is_set():
    """TT-14."""
    tracker = TaskTracker("t", 1)
    finish(tracker, "a")

    assert tracker.wait_for_task_completion(timeout=0)


def test_a_waiter_returns_true_when_the_task_ends_and_false_when_told_to_stop():
    """TT-16: the foreign event ends the wait too."""
    tracker, stop = TaskTracker("t", 1), threading.Event()
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(tracker.wait_for_task_completion(stop)))
    waiter.start()
    stop.set()
    waiter.join(5)
    assert answers == [False]

    finish(tracker, "a")

    assert tracker.wait_for_task_completion(stop) is True  # both set: the end wins


def test_the_end_wins_if_both_happen_at_once():
    """TT-16: the foreign event is set, and the task ends while the waiter looks at it."""

    class Ending(threading.Event):
        def is_set(self):
            finish(tracker, "a")
            return True

    tracker = TaskTracker("t", 1)

    assert tracker.wait_for_task_completion(Ending()) is True


def test_a_foreign_event_that_is_set_already_ends_the_wait_at_once():
    """TT-16."""
    stop = threading.Event()
    stop.set()

    assert TaskTracker("t", 1).wait_for_task_completion(stop) is False


def test_a_wait_can_have_a_timeout():
    """TT-17: in seconds, with or without an event."""
    tracker = TaskTracker("t", 1)

    assert tracker.wait_for_task_completion(timeout=0.001) is False
    assert tracker.wait_for_task_completion(threading.Event(), timeout=0.001) is False
    assert tracker.wait_for_task_completion(timeout=-1) is False


def latencies(tracker, stop, act, rounds):
    """Return seconds from `act` to the return of a waiter, for each round."""
    found = []
    for _ in range(rounds):
        one, event = tracker(), stop()
        woken = []
        waiter = threading.Thread(
            target=lambda one=one, event=event, woken=woken: (
                one.wait_for_task_completion(event),
                woken.append(time.perf_counter()),
            )
        )
        waiter.start()
        begun = time.perf_counter()
        act(one, event)
        waiter.join()
        found.append(woken[0] - begun)
    return sorted(found)


@pytest.mark.parametrize("what", ["end", "stop"])
def test_a_waiter_wakes_within_ten_milliseconds(what):
    """TT-17: the best of a few; the machine may be busy with something else."""
    found = latencies(
        lambda: TaskTracker("t", 1),
        threading.Event,
        lambda tracker, event: finish(tracker, "a") if what == "end" else event.set(),
        rounds=9,
    )

    assert found[0] < 0.010


def test_a_foreign_event_is_looked_at_often_enough_and_no_more():
    """TT-17: at most ten milliseconds apart, at a hundred looks per second or so."""
    looks = []

    class Done(threading.Event):
        def wait(self, timeout=None):
            looks.append(timeout)
            return super().wait(0)

    class Other(threading.Event):
        def is_set(self):
            return len(looks) == 5

    assert wait_for_either(Done(), Other()) is False
    assert all(0.008 <= look <= 0.010 for look in looks)


def test_without_a_foreign_event_nobody_looks():
    """TT-17: the waiter sleeps until the end, or its timeout."""
    looks = []

    class Done(threading.Event):
        def wait(self, timeout=None):
            looks.append(timeout)
            self.set()
            return True

    assert wait_for_either(Done()) is True
    assert wait_for_either(Done(), timeout=5.0) is True
    assert looks[0] is None
    assert 4.0 < looks[1] <= 5.0


def test_all_waiters_wake():
    """TT-17: any number of them."""
    tracker = TaskTracker("t", 1)
    answers = []
    waiters = [
        threading.Thread(
            target=lambda: answers.append(tracker.wait_for_task_completion(threading.Event(), 30))
        )
        for _ in range(16)
    ]
    for waiter in waiters:
        waiter.start()
    finish(tracker, "a")
    for waiter in waiters:
        waiter.join()

    assert answers == [True] * 16


def test_a_signal_wakes_and_changes_nothing_else(listener):
    """TT-18: the natural end is still told, once."""
    tracker = TaskTracker("t", 1, listener)
    tracker.signal_task_completion()
    tracker.signal_task_completion()
    assert tracker.wait_for_task_completion(timeout=0)
    assert tracker.get_status() is TaskStatus.QUEUED
    assert listener.calls == []

    finish(tracker, "a")

    assert len(listener.calls) == 1


def test_a_late_update_never_changes_a_finished_subtask(listener, caplog):
    """TT-19: nor its progress, devices and context; it is logged and counted."""
    caplog.set_level(logging.DEBUG)
    tracker = TaskTracker("t", 2, listener)
    finish(tracker, "a")
    before = tracker.subtasks["a"]
    tracker.update_task(
        task_name="a",
        status=TaskStatus.FAILED,
        result=(3, "no"),
        progress=5,
        devices=["x"],
        failed_devices=["x"],
        operation="Scan",
        obs_mode="IMAGING",
    )

    assert tracker.subtasks["a"] == before
    assert (tracker.operation, tracker.obs_mode, tracker.progress) == (None, None, 50)
    assert tracker.statistics().duplicate == 1
    assert "a is over" in caplog.text
    finish(tracker, "b")
    assert listener.last["counts"]["ok"] == 2


def test_nothing_changes_after_the_end(listener, caplog):
    """TT-20: no progress, no state; a new name is a warning, once."""
    tracker = TaskTracker("t", 1, listener, notify_progress=True)
    finish(tracker, "a")
    before = (tracker.subtasks, tracker.outcome)
    for name in ("a", "new", "newer"):
        tracker.update_task(task_name=name, status=TaskStatus.FAILED, progress=50, error="x")

    assert (tracker.subtasks, tracker.outcome) == before
    assert len(listener.calls) == 1
    assert sum("new subtask" in text for text in caplog.messages) == 1


def test_a_tree_of_trackers_ends_from_the_leaves_up(listener):
    """TT-25: a child's completion is an update of its parent."""
    root = TaskTracker("root", 2, listener, is_root=True)
    middles = [TaskTracker(f"m{n}", 2, root.parent_callback()) for n in range(2)]
    leaves = [
        TaskTracker(f"l{n}", 1, middles[n // 2].parent_callback(), notify_progress=True)
        for n in range(4)
    ]
    for number, leaf in enumerate(leaves):
        assert listener.calls == []
        result = (3, "no beam") if number == 2 else OK
        leaf.update_task(task_name="cmd", device_name=f"dev/{number}", status=DONE, result=result)

    assert len(listener.calls) == 1
    assert listener.last["result"][0] is ResultCode.FAILED
    assert listener.last["failed_devices"] == ["dev/2"]
    assert "- dev/2: no beam" in listener.last["result"][1]


def test_a_callback_can_be_set_late(listener):
    """TT-26: before the end it is told as usual, after the end at once and only once."""
    tracker = TaskTracker("t", 2)
    finish(tracker, "a")
    tracker.set_completed_callback(listener)
    finish(tracker, "b")
    assert len(listener.calls) == 1
    tracker.set_completed_callback(listener)
    assert len(listener.calls) == 1

    other = TaskTracker("t", 1)
    finish(other, "a")
    other.set_completed_callback(listener)

    assert len(listener.calls) == 2
