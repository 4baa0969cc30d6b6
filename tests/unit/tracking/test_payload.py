"""What a tracker tells at the end, and how."""

import logging
import threading
from types import SimpleNamespace

import pytest

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking import (
    MAX_ERRORS,
    AggregationOutcome,
    TaskAggregationPolicy,
    TaskTracker,
    lrc_callback,
)

OK = (ResultCode.OK, "ok")
DONE = TaskStatus.COMPLETED


def finish(tracker, *names, result=OK, **more):
    """End subtasks."""
    for name in names:
        tracker.update_task(task_name=name, status=DONE, result=result, **more)


def dev_error(reason, desc="d", origin="o"):
    """Make what a tango.DevError looks like."""
    return SimpleNamespace(reason=reason, desc=desc, origin=origin)


def test_only_what_is_known_is_told(listener):
    """CB-01, CB-02: no empty keys."""
    finish(TaskTracker("t", 1, listener), "a")

    assert listener.calls == [
        {
            "task_name": "t",
            "status": DONE,
            "result": (ResultCode.OK, "completed"),
            "progress": 100,
            "counts": {"ok": 1, "failed": 0, "rejected": 0, "aborted": 0, "total": 1},
        }
    ]


def test_a_failure_is_told_with_all_that_is_known(listener):
    """CB-01, CB-03: devices, health as text, errors and context."""
    tracker = TaskTracker("t", 2, listener)
    finish(tracker, "a", device_name="x", operation="Scan", obs_mode=["B", "A"])
    finish(tracker, "b", device_name="y", result=(3, "bad"), error=("oops",))

    told = listener.last
    assert (told["devices"], told["failed_devices"]) == (["x", "y"], ["y"])
    assert (told["health_state"], told["error"]) == ("DEGRADED", ("oops",))
    assert (told["operation"], told["obs_mode"]) == ("Scan", ("A", "B"))


def test_counts_say_how_much_was_done(listener):
    """A-13: in numbers, not only in a message."""
    tracker = TaskTracker("t", 5, listener)
    for name, status in zip("abcde", ["COMPLETED", 7, 6, 3, 4], strict=True):
        tracker.update_task(task_name=name, status=status, result=None if status == 4 else "x")

    assert listener.last["counts"] == {
        "ok": 1,
        "failed": 2,
        "rejected": 1,
        "aborted": 1,
        "total": 5,
    }


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_devices_are_told_sorted_and_once(order, listener):
    """TT-22: whatever the order of updates; only failed subtasks blame devices."""
    updates = [
        {"task_name": "a", "devices": ["d", "b", "d"], "result": (3, "x")},
        {"task_name": "b", "device_name": "c", "failed_devices": ["c"], "result": OK},
        {"task_name": "c", "devices": ["e", "f", None, ""], "failed_devices": "f", "result": 3},
        {"task_name": "d", "result": (3, "x")},
    ]
    tracker = TaskTracker("t", 4, listener)
    for number in order:
        tracker.update_task(status=DONE, **updates[number])

    assert listener.last["devices"] == ["b", "c", "d", "e", "f"]
    assert listener.last["failed_devices"] == ["b", "d", "f"]


def test_an_aborted_subtask_blames_only_whom_it_names(listener):
    """TT-22: who was stopped has not failed."""
    tracker = TaskTracker("t", 2, listener)
    tracker.update_task(task_name="a", status="ABORTED", result=7, device_name="x")
    tracker.update_task(
        task_name="b", status="ABORTED", result=7, devices=["y", "z"], failed_devices=["z"]
    )

    assert listener.last["devices"] == ["x", "y", "z"]
    assert listener.last["failed_devices"] == ["z"]


def test_errors_add_up_and_come_once(listener):
    """TT-21, A-10: by reason, description and origin, in their order."""
    tracker = TaskTracker("t", 2, listener)
    first, second = dev_error("r1"), dev_error("r2")
    tracker.update_task(task_name="a", error=(first,))
    assert tracker.get_status() is TaskStatus.QUEUED
    tracker.update_task(task_name="b", error=(second, dev_error("r1"), None))
    tracker.update_task(task_name="b", error=dev_error("r1", origin="elsewhere"))
    finish(tracker, "a", "b")

    assert [error.reason for error in listener.last["error"]] == ["r1", "r2", "r1"]
    assert listener.last["error"][0] is first


def test_errors_are_bounded(listener):
    """TT-21: of any kind, also exceptions and texts."""
    tracker = TaskTracker("t", 1, listener)
    for number in range(100):
        tracker.update_task(task_name="a", error=[ValueError(number), f"text {number}"])
    finish(tracker, "a")

    assert len(listener.last["error"]) == MAX_ERRORS


def test_context_climbs_from_a_leaf_to_the_root():
    """CB-03: three levels; the root's policy knows the mode."""
    root = TaskTracker("root", 1)
    middle = TaskTracker("middle", 1, root.parent_callback())
    leaf = TaskTracker("leaf", 1, middle.parent_callback())
    finish(leaf, "a", obs_mode="IMAGING", operation="Scan")

    assert (root.obs_mode, root.operation) == ("IMAGING", "Scan")
    assert root.policy.obs_mode == "IMAGING"


def test_health_climbs_as_it_is():
    """A-11: a grandparent sees DEGRADED, not what it would make of a failure."""
    root = TaskTracker("root", 1)
    middle = TaskTracker("middle", 1, root.parent_callback())
    leaf = TaskTracker("leaf", 2, middle.parent_callback())
    finish(leaf, "a", result=(3, "bad"))
    finish(leaf, "b")

    assert root.overall_health is HealthState.DEGRADED
    assert root.get_result() is ResultCode.FAILED


def test_a_root_can_tell_a_strict_lrc_callback(listener):
    """CB-04: four keywords for it, the rest for the sink."""
    told = []

    def strict(*, status=None, progress=None, result=None, error=None):
        told.append((status, progress, result, error))

    tracker = TaskTracker(
        "t", 1, lrc_callback(strict, sink=listener), is_root=True, notify_progress=True
    )
    tracker.update_task(task_name="a", progress=50)
    finish(tracker, "a", device_name="x", error=("e",))

    assert told == [
        (TaskStatus.IN_PROGRESS, 50, None, None),
        (DONE, 100, (ResultCode.OK, "Task t completed"), ("e",)),
    ]
    assert listener.last.keys() == {"task_name", "counts", "devices"}


def test_a_sink_that_raises_hurts_nobody(caplog):
    """CB-04: the command's callback is called all the same."""
    told = []

    def broken(**_):
        raise OSError("disk full")

    lrc_callback(lambda **more: told.append(more), sink=broken)(task_name="t", status=DONE)

    assert told == [{"status": DONE}]
    assert "disk full" in caplog.text


def test_a_callback_may_use_the_tracker_and_its_parent():
    """CB-05, A-8: no lock is held while it runs, also not for other threads."""
    answers = []

    def nosy(**payload):
        answers.append(child.get_status())
        other = threading.Thread(target=lambda: answers.append(child.progress))
        other.start()
        other.join(10)
        parent.update_task(**payload)

    parent = TaskTracker("p", 1)
    child = TaskTracker("c", 1, nosy)
    finish(child, "a")

    assert answers == [DONE, 100]
    assert parent.get_status() is DONE


@pytest.mark.parametrize("fault", [ValueError("boom"), SystemExit(3), GeneratorExit()])
def test_a_callback_that_raises_changes_nothing(fault, caplog):
    """CB-06, A-9: logged with its traceback, kept, not repeated."""
    calls = []

    def broken(**_):
        calls.append(1)
        raise fault

    tracker = TaskTracker("t", 1, broken)
    finish(tracker, "a")

    assert calls == [1]
    assert tracker.wait_for_task_completion(timeout=0)
    assert tracker.overall_resultcode == (ResultCode.OK, "completed")
    assert tracker.callback_error is fault
    assert tracker.statistics().callback_errors == 1
    assert any(record.exc_info for record in caplog.records)


def test_a_persons_interrupt_in_a_callback_gets_through():
    """CB-06: after the books are closed."""

    def interrupted(**_):
        raise KeyboardInterrupt

    tracker = TaskTracker("t", 1, interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(tracker, "a")

    assert tracker.wait_for_task_completion(timeout=0)
    assert tracker.get_status() is DONE


def test_progress_callback_that_raises_is_called_again(listener):
    """CB-06: for what comes later."""

    def shaky(**payload):
        listener(**payload)
        if "result" not in payload:
            raise ValueError("no")

    tracker = TaskTracker("t", 1, shaky, notify_progress=True)
    tracker.update_task(task_name="a", progress=20)
    finish(tracker, "a")

    assert [call["progress"] for call in listener.calls] == [20, 100]


# Context


def test_nothing_keeps_what_is_known():
    """CX-01, CX-04: None, and empty texts and lists."""
    tracker = TaskTracker("t", 2, operation="Scan", obs_mode="IMAGING")
    for nothing in (None, "", "  ", [], ()):
        tracker.set_context(operation=nothing, obs_mode=nothing)

    assert (tracker.operation, tracker.obs_mode) == ("Scan", "IMAGING")


def test_the_policy_is_made_anew_only_for_a_new_context():
    """CX-02: the same values keep the same object."""
    tracker = TaskTracker("t", 2, operation="Scan")
    before = tracker.policy
    tracker.set_context(operation="Scan")
    tracker.update_task(task_name="a", operation="Scan")
    assert tracker.policy is before

    tracker.set_context(obs_mode=["B", "A"])
    changed = tracker.policy
    tracker.set_context(obs_mode=("A", "B", "A"))

    assert changed is not before
    assert tracker.policy is changed
    assert (changed.operation, changed.obs_mode) == ("Scan", ("A", "B"))


def test_a_slow_factory_does_not_bring_back_an_old_context():
    """CX-02: the policy of the newest context stays, whichever is made last."""

    def slow(*context):
        policy = TaskAggregationPolicy(*context)
        if policy.obs_mode == "OLD":
            other = threading.Thread(target=tracker.set_context, kwargs={"obs_mode": "NEW"})
            other.start()
            other.join(30)
        return policy

    tracker = TaskTracker("t", 1, policy_factory=slow)
    tracker.set_context(obs_mode="OLD")

    assert tracker.policy.obs_mode == "NEW"


def test_an_update_is_judged_by_the_context_that_it_brings(listener):
    """CX-03: ignored when not searching, and the last update says so."""
    tracker = TaskTracker("t", 2, listener)
    finish(tracker, "a", result=(3, "bad"), device_name="pss/1")
    finish(tracker, "b", device_name="x", obs_mode="IMAGING")

    assert listener.last["result"][0] is ResultCode.OK


def test_a_new_context_judges_again_what_is_there():
    """CX-04: at once, all subtasks so far."""
    asked = []

    class Watching(TaskAggregationPolicy):
        def aggregate(self, subtasks, /):
            asked.append((self.obs_mode, [subtask.name for subtask in subtasks]))
            return AggregationOutcome(DONE, ResultCode.FAILED, "", HealthState.DEGRADED)

    tracker = TaskTracker("t", 3, policy_factory=Watching)
    finish(tracker, "a", "b")
    tracker.set_context(obs_mode="IMAGING")

    assert asked == [("IMAGING", ["a", "b"])]
    assert tracker.overall_health is HealthState.DEGRADED
    assert tracker.get_status() is TaskStatus.IN_PROGRESS  # not before the last is over


def test_the_context_is_frozen_at_the_end():
    """CX-04."""
    tracker = TaskTracker("t", 1, operation="Scan")
    finish(tracker, "a")
    policy = tracker.policy
    tracker.set_context(operation="Configure", obs_mode="IMAGING")

    assert (tracker.operation, tracker.obs_mode, tracker.policy) == ("Scan", None, policy)


def test_a_policy_that_cannot_judge_the_beginning_may_judge_the_end(caplog):
    """CX-04, TH-03: only its final word ends the task."""

    class AllOrNothing(TaskAggregationPolicy):
        def aggregate(self, subtasks, /):
            if len(subtasks) < 2:
                raise ValueError("too early")
            return super().aggregate(subtasks)

    tracker = TaskTracker("t", 2, policy_factory=AllOrNothing)
    finish(tracker, "a")
    tracker.set_context(obs_mode="IMAGING")
    assert tracker.get_status() is TaskStatus.IN_PROGRESS
    finish(tracker, "b")

    assert tracker.get_result() is ResultCode.OK
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
