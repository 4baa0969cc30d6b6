"""Progress: what is stored, what it means for the task, and what is told of it."""

import threading

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import TaskTracker

DONE = TaskStatus.COMPLETED


def end(tracker, name):
    """End a subtask well."""
    tracker.update_task(task_name=name, status=DONE, result=(ResultCode.OK, ""))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (-5, 0),
        (250, 100),
        (42, 42),
        (12.9, 12),
        ("37", 37),
        (" 37.5 ", 37),
        (None, 20),
        (True, 20),
        (float("nan"), 20),
        (float("inf"), 20),
        ("soon", 20),
        ([], 20),
        (object(), 20),
    ],
)
def test_progress_is_a_whole_number_from_0_to_100(given, stored):
    """PR-01: what is no number is ignored."""
    tracker = TaskTracker("t", 1)
    tracker.update_task(task_name="a", progress=20)
    tracker.update_task(task_name="a", progress=given)

    assert tracker.subtask_progress == {"a": stored}


def test_progress_is_the_mean_over_all_expected():
    """PR-02: one of four done, one at half: floor of 37.5."""
    tracker = TaskTracker("t", 4)
    end(tracker, "a")
    tracker.update_task(task_name="b", progress=50)

    assert tracker.progress == 37


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "REJECTED", "NOT_FOUND"])
def test_whatever_is_over_counts_as_100(status):
    """PR-02: the work is over, however it ended."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status=status, progress=10)

    assert tracker.progress == 50


def test_progress_is_told_in_steps(listener):
    """PR-03: 1 to 100 gives 10 to 90, and 100 only with the completion."""
    tracker = TaskTracker("t", 1, listener, notify_progress=True)
    for value in range(1, 101):
        tracker.update_task(task_name="a", progress=value)
    end(tracker, "a")

    assert listener.progress == list(range(10, 100, 10))
    assert listener.last["progress"] == 100


@pytest.mark.parametrize(
    ("step", "told"), [(30, [30, 60, 90]), (1, list(range(1, 100))), (100, [])]
)
def test_the_step_can_be_set(step, told, listener):
    """PR-03: 100 need not be a multiple of it."""
    tracker = TaskTracker("t", 1, listener, notify_progress=True, progress_step=step)
    for value in range(101):
        tracker.update_task(task_name="a", progress=value)
    end(tracker, "a")

    assert listener.progress == told
    assert listener.last["progress"] == 100


def test_progress_is_not_told_unless_asked_for(listener):
    """TT-15: off by default."""
    tracker = TaskTracker("t", 1, listener)
    tracker.update_task(task_name="a", progress=50)

    assert listener.calls == []


def test_progress_goes_through_the_same_callback(listener):
    """TT-15, PR-06: with the task's name and status."""
    tracker = TaskTracker("t", 1, listener, notify_progress=True)
    tracker.update_task(task_name="a", progress=57)

    assert listener.calls == [{"task_name": "t", "progress": 50, "status": TaskStatus.IN_PROGRESS}]
    assert not tracker.wait_for_task_completion(timeout=0)


def test_100_belongs_to_the_completion(listener):
    """PR-04, A-15: subtasks at 100 that are not over give 90."""
    tracker = TaskTracker("t", 2, listener, notify_progress=True)
    for name in ("a", "b"):
        tracker.update_task(task_name=name, progress=100)

    assert tracker.progress == 99
    assert listener.progress == [50, 90]


def test_no_progress_is_told_after_the_completion(listener):
    """PR-04."""
    tracker = TaskTracker("t", 1, listener, notify_progress=True)
    end(tracker, "a")
    tracker.update_task(task_name="a", progress=50)

    assert listener.progress == []


def test_what_is_told_never_goes_back(listener):
    """PR-05: though the value inside may."""
    tracker = TaskTracker("t", 1, listener, notify_progress=True)
    for value in (50, 20, 40, 55, 60):
        tracker.update_task(task_name="a", progress=value)
        assert tracker.progress == value

    assert listener.progress == [50, 60]


def test_a_slow_callback_gets_the_newest_value():
    """PR-06: what piled up meanwhile is left out; the order stays."""
    told, busy, free = [], threading.Event(), threading.Event()

    def slow(**payload):
        told.append(payload["progress"])
        busy.set()
        free.wait(30)

    tracker = TaskTracker("t", 1, slow, notify_progress=True)
    first = threading.Thread(target=tracker.update_task, kwargs={"task_name": "a", "progress": 10})
    first.start()
    busy.wait(30)
    for value in (20, 30, 40):
        tracker.update_task(task_name="a", progress=value)
    free.set()
    first.join()

    assert told == [10, 40]
    assert tracker.statistics().coalesced == 2


def test_the_completion_overtakes_untold_progress():
    """PR-04, PR-06: nothing comes after it."""
    told, busy, free = [], threading.Event(), threading.Event()

    def slow(**payload):
        told.append(payload["progress"])
        busy.set()
        free.wait(30)

    tracker = TaskTracker("t", 1, slow, notify_progress=True)
    first = threading.Thread(target=tracker.update_task, kwargs={"task_name": "a", "progress": 10})
    first.start()
    busy.wait(30)
    tracker.update_task(task_name="a", progress=20)
    end(tracker, "a")
    assert not tracker.wait_for_task_completion(timeout=0)
    free.set()
    first.join()

    assert tracker.wait_for_task_completion(timeout=0)
    assert told == [10, 100]


def test_weights_say_how_long_a_subtask_takes():
    """PR-07: nine seconds and one."""
    tracker = TaskTracker("t", 2, weights={"a": 9, "b": 1})
    end(tracker, "a")

    assert tracker.progress == 90


def test_subtasks_without_a_weight_count_as_the_mean():
    """PR-07: three seconds for the third."""
    tracker = TaskTracker("t", 3, weights={"a": 5.0, "b": 1.0})
    end(tracker, "c")

    assert tracker.progress == 33


def test_progress_says_that_the_work_has_begun():
    """PR-06: status and progress payload agree."""
    tracker = TaskTracker("t", 1)
    tracker.update_task(task_name="a", progress=5)

    assert tracker.get_status() is TaskStatus.IN_PROGRESS
