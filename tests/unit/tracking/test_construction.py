"""A tracker's construction, its public state, and the updates that it takes."""

import logging

import pytest

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking import (
    MAX_UNDECLARED,
    AggregationOutcome,
    TaskAggregationPolicy,
    TaskTracker,
)

OK = (ResultCode.OK, "ok")
DONE = TaskStatus.COMPLETED
RUNNING = TaskStatus.IN_PROGRESS


def test_arguments_go_by_position_and_by_keyword(listener):
    """TT-01: the positional order is the seed's; None for is_root reads as False."""
    logger = logging.getLogger("somewhere")
    one = TaskTracker("t", 2, listener, logger, "Scan", "IMAGING", True)
    other = TaskTracker(
        task_name="t",
        total_subtasks=2,
        completed_callback=listener,
        logger=logger,
        operation="Scan",
        obs_mode="IMAGING",
        is_root=None,
    )

    assert (one.task_name, one.total_subtasks, one.logger) == ("t", 2, logger)
    assert (one.operation, one.obs_mode, one.is_root) == ("Scan", "IMAGING", True)
    assert other.is_root is False


def test_the_policy_is_there_from_the_start():
    """TT-02: built of the context that the constructor was given."""
    policy = TaskTracker("t", 1, None, None, "Scan", "IMAGING", True).policy

    assert isinstance(policy, TaskAggregationPolicy)
    assert (policy.task_name, policy.operation, policy.obs_mode) == ("t", "Scan", "IMAGING")
    assert policy.is_root is True


def test_the_logger_defaults_to_the_modules(caplog):
    """TT-03: without a logger, records go to that of the module."""
    TaskTracker("t", 1).update_task(task_name="", status=DONE)

    assert [record.name for record in caplog.records] == ["milonga.tracking._tracker"]


def test_a_given_logger_is_used(caplog):
    """TT-03: with a logger, records go there."""
    TaskTracker("t", 1, logger=logging.getLogger("mine")).update_task(task_name="")

    assert [record.name for record in caplog.records] == ["mine"]


def test_what_is_read_is_a_copy():
    """TT-04: changing what a tracker returned does not change the tracker."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status=RUNNING, progress=50)

    tracker.subtasks.clear()
    tracker.subtask_progress.clear()

    assert list(tracker.subtasks) == ["a"]
    assert tracker.subtask_progress == {"a": 50}
    with pytest.raises(AttributeError):
        tracker.subtasks["a"].status = DONE


def test_public_state_follows_the_updates():
    """TT-04, TT-06: all public names, at work and at the end."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status=DONE, result=(ResultCode.FAILED, "bad"))
    assert (tracker.overall_status, tracker.overall_result) == (RUNNING, ResultCode.STARTED)
    assert (tracker.completed_subtasks, tracker.total_subtasks, tracker.progress) == (1, 2, 50)

    tracker.update_task(task_name="b", status=DONE, result=OK)

    assert (tracker.overall_status, tracker.overall_result) == (DONE, ResultCode.FAILED)
    assert (tracker.get_status(), tracker.get_result()) == (DONE, ResultCode.FAILED)
    assert tracker.overall_resultcode == (ResultCode.FAILED, "bad")
    assert tracker.overall_health is HealthState.DEGRADED
    assert (tracker.completed_subtasks, tracker.progress) == (2, 100)


def test_a_fresh_tracker_is_queued():
    """TT-05: before any update."""
    tracker = TaskTracker("t", 1)

    assert tracker.get_status() is TaskStatus.QUEUED
    assert tracker.get_result() is ResultCode.QUEUED
    assert (tracker.progress, tracker.overall_health) == (0, None)


def test_a_name_has_one_entry():
    """TT-07: later updates change the same entry."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status="QUEUED")
    tracker.update_task(task_name="a", status="IN_PROGRESS")

    assert list(tracker.subtasks) == ["a"]
    assert tracker.subtasks["a"].status is RUNNING


def test_two_devices_under_one_name_stay_apart(caplog):
    """TT-07, A-16: the second device gets a key of its own, and a person is told once."""
    tracker = TaskTracker("t", 2)
    for device in ("x", "y", "x", "y"):
        tracker.update_task(task_name="a", device_name=device, status=RUNNING)
    tracker.update_task(task_name="a", device_name="y", status=DONE, result=(3, "bad"))

    assert {key: sub.status for key, sub in tracker.subtasks.items()} == {
        "a": RUNNING,
        ("a", "y"): DONE,
    }
    assert sum("several devices" in text for text in caplog.messages) == 1


def test_a_device_name_that_comes_later_is_the_same_subtask():
    """TT-07: only a different device makes a different subtask."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status="QUEUED")
    tracker.update_task(task_name="a", device_name="x")
    tracker.update_task(task_name="a", status=RUNNING)

    assert list(tracker.subtasks) == ["a"]
    assert tracker.subtasks["a"].device_name == "x"


def test_updates_are_by_keyword_only():
    """TT-08: and they return None."""
    tracker = TaskTracker("t", 1)

    with pytest.raises(TypeError):
        tracker.update_task("a", DONE)
    assert tracker.update_task(task_name="a") is None


@pytest.mark.parametrize("name", ["", "  ", None, 5, b"a", object()])
def test_an_update_without_a_name_makes_no_entry(name, caplog):
    """TT-08: it is logged and counted."""
    tracker = TaskTracker("t", 1)
    tracker.update_task(task_name=name, status=DONE, result=OK)

    assert tracker.subtasks == {}
    assert tracker.statistics().unknown == 1
    assert "without task_name" in caplog.text


def test_unknown_keywords_are_tolerated_and_source_is_logged(caplog):
    """TT-09: `source` feeds only the log."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status="nonsense", foo=1, source="cbf-proxy")

    assert "cbf-proxy" in caplog.text
    assert tracker.statistics().updates == 1


def test_devices_and_failed_devices_are_different_things(listener):
    """TT-10: a failed device is also one that took part."""
    tracker = TaskTracker("t", 1, listener)
    tracker.update_task(
        task_name="a",
        status=DONE,
        result=(3, "x"),
        device_name="z",
        devices=["b", "a"],
        failed_devices=["c", "b"],
    )

    assert tracker.subtasks["a"].devices == ("b", "a", "c")
    assert listener.last["devices"] == ["a", "b", "c"]
    assert listener.last["failed_devices"] == ["b", "c"]


def test_an_endless_stream_of_new_names_is_bounded():
    """TT-13: undeclared subtasks have a limit, and those beyond are counted."""
    tracker = TaskTracker("t", 1)
    for number in range(MAX_UNDECLARED + 11):
        tracker.update_task(task_name=f"s{number}", status=RUNNING)

    assert len(tracker.subtasks) == MAX_UNDECLARED + 1
    assert tracker.statistics().unknown == 10


def test_the_seeds_private_names_keep_their_meaning(listener):
    """TT-23: people who port unit tests may call them."""
    tracker = TaskTracker("t", 2, listener)
    tracker._upsert_subtask("a", status=DONE, result=(3, "bad"), device_name="d")
    tracker._record_subtask_progress("b", 30)

    assert tracker._extract_context({"operation": "Scan", "obs_mode": ""}) == ("Scan", None)
    assert tracker._is_task_already_completed("a") is True
    assert tracker._is_task_already_completed("b") is False
    assert (tracker._recompute_completion(), tracker._recompute_progress()) == (1, 65)
    assert tracker._collect_devices_for_completion() == (["d"], ["d"])
    assert isinstance(tracker._aggregate(), AggregationOutcome)
    assert tracker._is_done_locked() is tracker._is_done is False
    assert tracker._build_progress_payload(10)["progress"] == 10
    assert tracker._build_completion_payload()["task_name"] == "t"
    assert tracker._chain_message() == ""
    assert listener.calls == []


def test_chain_message_is_the_message_of_the_outcome():
    """TT-24: empty before, equal to the second of `overall_resultcode` after."""
    tracker = TaskTracker("t", 1)
    assert tracker._chain_message() == ""

    tracker.update_task(task_name="a", status=DONE, result=(3, "bad"))

    assert tracker._chain_message() == tracker.overall_resultcode[1] == "bad"


@pytest.mark.parametrize(
    "wrong",
    [
        {"progress_step": 0},
        {"progress_step": 101},
        {"result_grace": -1.0},
        {"result_grace": float("nan")},
        {"weights": {"a": 0.0}},
        {"weights": {"a": float("inf")}},
        {"weights": {"a": True}},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    """A text that names the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TaskTracker("t", 1, **wrong)


def test_times_of_subtasks_are_kept():
    """A-18: first update, start, end and duration, on an injected clock."""
    now = [10.0]
    tracker = TaskTracker("t", 2, clock=lambda: now[0])
    tracker.update_task(task_name="a", status="QUEUED")
    now[0] = 12.0
    tracker.update_task(task_name="a", status=RUNNING)
    assert tracker.subtasks["a"].seconds is None
    now[0] = 15.5
    tracker.update_task(task_name="a", status=DONE)
    now[0] = 99.0
    tracker.update_task(task_name="a", result=(3, "late text"))

    subtask = tracker.subtasks["a"]
    assert (subtask.reported, subtask.started, subtask.finished) == (10.0, 12.0, 15.5)
    assert subtask.seconds == 3.5


def test_statistics_count_what_was_not_used():
    """Duplicate, ignored, late and unknown updates can be seen from outside."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status=DONE, result=OK)
    tracker.update_task(task_name="a", status=TaskStatus.FAILED)
    tracker.update_task(task_name="b", status=RUNNING)
    tracker.update_task(task_name="b", status="nonsense")
    tracker.update_task(task_name="b", status=DONE, result=OK)
    tracker.update_task(task_name="b", status=DONE)
    tracker.update_task(task_name="new", status=DONE)

    found = tracker.statistics()
    assert (found.updates, found.duplicate, found.ignored) == (3, 1, 1)
    assert (found.late, found.unknown) == (2, 1)
    assert (found.subtasks, found.final, found.results_missing) == (2, 2, 0)
