"""One subtask: what is read of an update, and how its outcome counts."""

import json

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import SubtaskResult, TaskTracker, Verdict, parse_result, verdict_of

OK = (ResultCode.OK, "ok")
DONE = TaskStatus.COMPLETED


def after(**update):
    """Return the subtask after one update of a tracker that goes on."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", **update)
    return tracker.subtasks["a"]


def test_a_subtask_stores_what_was_said():
    """SR-01."""
    subtask = after(
        status=DONE,
        result=(3, "bad"),
        device_name="d",
        devices=["d", "e"],
        failed_devices=["e"],
        operation="Scan",
        obs_mode="IMAGING",
    )

    assert (subtask.name, subtask.status, subtask.result_code) == ("a", DONE, ResultCode.FAILED)
    assert (subtask.message, subtask.device_name) == ("d: bad", "d")
    assert (subtask.devices, subtask.failed_devices) == (("d", "e"), ("e",))
    assert (subtask.operation, subtask.obs_mode) == ("Scan", "IMAGING")


@pytest.mark.parametrize(
    ("result", "code", "text"),
    [
        ((0, "ok"), 0, "ok"),
        ([3, "x"], 3, "x"),
        ((ResultCode.ABORTED, None), 7, ""),
        ((99, "odd"), 4, "odd"),
        ((3, 12.5), 3, "12.5"),
        ((0, {"uid": "x"}), 0, '{"uid": "x"}'),
        (([5], ["not now"]), 5, "not now"),
    ],
)
def test_a_pair_is_a_code_and_a_text(result, code, text):
    """SR-02: a number that no code has is UNKNOWN."""
    assert parse_result(result) == (code, text)


@pytest.mark.parametrize(
    ("result", "code", "text"),
    [
        ('[3, "bad"]', ResultCode.FAILED, "bad"),
        (' ["5", "no"] ', ResultCode.REJECTED, "no"),
        ('["FAILED", "no"]', ResultCode.FAILED, "no"),
        (b'[0, "fine"]', ResultCode.OK, "fine"),
        ('[0, {"a": [1]}]', ResultCode.OK, '{"a": [1]}'),
        ('{"a": 1}', None, '{"a": 1}'),
        ("[1, 2, 3]", None, "[1, 2, 3]"),
        ('["a", "b"]', None, '["a", "b"]'),
        ('[true, "b"]', None, '[true, "b"]'),
        ("[3, ", None, "[3, "),
        ("[" * 100_000, None, "[" * 100_000),
    ],
)
def test_json_text_of_a_pair_is_that_pair(result, code, text):
    """SR-03: JSON of another shape is text."""
    assert parse_result(result) == (code, text)


@pytest.mark.parametrize(
    ("result", "code", "text"),
    [
        (ResultCode.OK, ResultCode.OK, ""),
        (0, ResultCode.OK, ""),
        ("3", ResultCode.FAILED, ""),
        ("REJECTED", ResultCode.REJECTED, ""),
        (42, ResultCode.UNKNOWN, ""),
        ("42", None, "42"),
        (True, None, "True"),
        (None, None, ""),
        ("  ", None, ""),
    ],
)
def test_a_bare_code_is_a_code(result, code, text):
    """SR-04: a bool is not a number here."""
    assert parse_result(result) == (code, text)


@pytest.mark.parametrize("text", ["Completed", "ok", "DONE", "Success", "OK"])
def test_legacy_texts_mean_ok(text):
    """SR-05: whatever the case."""
    assert parse_result(text, TaskStatus.FAILED) == (ResultCode.OK, text)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (DONE, ResultCode.OK),
        (TaskStatus.FAILED, ResultCode.FAILED),
        (TaskStatus.REJECTED, ResultCode.REJECTED),
        (TaskStatus.ABORTED, ResultCode.ABORTED),
        (TaskStatus.NOT_FOUND, ResultCode.UNKNOWN),
        (TaskStatus.IN_PROGRESS, None),
        (None, None),
    ],
)
def test_other_text_takes_its_code_from_the_status(status, code):
    """SR-05: and stays the message; in one update, or status and text apart."""
    assert parse_result("no beam", status) == (code, "no beam")
    subtask = after(status=status, result="no beam")
    assert (subtask.result_code, subtask.message) == (code, "no beam")


def test_text_before_the_status_takes_its_code_from_it_too():
    """SR-05, SR-08."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", result="no beam")
    tracker.update_task(task_name="a", status=TaskStatus.FAILED)

    assert tracker.subtasks["a"].result_code is ResultCode.FAILED
    assert tracker.subtasks["a"].message == "no beam"


def test_the_device_is_named_once():
    """SR-06, A-14: also when it is learned after the text, or the text names it already."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", result=(3, "bad"))
    tracker.update_task(task_name="a", device_name="dev")
    tracker.update_task(task_name="a", device_name="dev", status=DONE)

    assert tracker.subtasks["a"].message == "dev: bad"
    assert after(result=(3, "dev: bad"), device_name="dev").message == "dev: bad"


def test_a_device_is_named_once_per_cause(listener):
    """SR-06: in a message of several lines."""
    tracker = TaskTracker("t", 1, listener)
    tracker.update_task(task_name="a", status=DONE, result=(3, "one\ntwo"), device_name="dev")

    assert listener.last["result"][1] == "dev: one\ndev: two"


def test_devices_keep_their_order_and_come_once():
    """SR-07: a text is one device, None is none, a generator is read once."""
    assert after(devices=["b", "a", "b", None, ""]).devices == ("b", "a")
    assert after(devices="a/b/c").devices == ("a/b/c",)
    assert after(devices=(name for name in ("x", "y"))).devices == ("x", "y")
    assert after(devices=5).devices == ()


def test_an_endless_generator_of_devices_ends():
    """SR-07: so many are read, and no more."""
    assert after(devices=iter(lambda: "x", None)).devices == ("x",)


def test_an_update_without_devices_keeps_those_known():
    """SR-07."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", devices=["x"])
    tracker.update_task(task_name="a", status=DONE, devices=None)

    assert tracker.subtasks["a"].devices == ("x",)


@pytest.mark.parametrize("status_first", [True, False])
def test_status_and_result_may_come_apart(status_first, listener, timer):
    """SR-08, A-3: COMPLETED, and then (FAILED, ...), is a failure."""
    tracker = TaskTracker("t", 1, listener, call_later=timer)
    updates = [{"status": DONE}, {"result": (3, "x")}]
    for update in updates if status_first else updates[::-1]:
        tracker.update_task(task_name="a", **update)

    assert tracker.get_result() is ResultCode.FAILED
    assert len(listener.calls) == 1


def test_a_late_result_is_taken_once():
    """SR-08."""
    tracker = TaskTracker("t", 2)
    tracker.update_task(task_name="a", status=DONE)
    tracker.update_task(task_name="a", result=(3, "x"))
    tracker.update_task(task_name="a", result=OK)

    assert tracker.subtasks["a"].result_code is ResultCode.FAILED
    assert tracker.statistics().duplicate == 1


def test_the_end_waits_a_moment_for_a_missing_result(listener, timer):
    """SR-08: `result_grace`, half a second unless set."""
    tracker = TaskTracker("t", 1, listener, call_later=timer)
    tracker.update_task(task_name="a", status=DONE)
    assert listener.calls == []
    assert tracker.get_status() is TaskStatus.IN_PROGRESS
    assert [entry.delay for entry in timer.scheduled] == [0.5]

    timer.expire()

    assert listener.last["result"][0] is ResultCode.OK


def test_a_result_in_time_cancels_the_timer(listener, timer):
    """SR-08."""
    tracker = TaskTracker("t", 1, listener, call_later=timer)
    tracker.update_task(task_name="a", status=DONE)
    tracker.update_task(task_name="a", result=OK)

    assert len(listener.calls) == 1
    assert timer.scheduled[0].cancelled
    timer.scheduled[0].function()
    assert len(listener.calls) == 1


def test_no_grace_ends_at_once(listener):
    """SR-08: 0 switches the wait off."""
    tracker = TaskTracker("t", 1, listener, result_grace=0)
    tracker.update_task(task_name="a", status=DONE)

    assert len(listener.calls) == 1


def test_a_result_that_only_says_started_is_still_awaited(listener, timer):
    """SR-08: the answer to the command is not its result."""
    tracker = TaskTracker("t", 1, listener, call_later=timer)
    tracker.update_task(task_name="a", result=(ResultCode.STARTED, "id_7"))
    tracker.update_task(task_name="a", status=DONE)
    assert listener.calls == []

    tracker.update_task(task_name="a", result=(3, "bad"))

    assert listener.last["result"] == (ResultCode.FAILED, "bad")


def test_an_extra_subtask_during_the_grace_holds_the_end_back(listener, timer):
    """SR-08, TT-13: the grace starts again when all are over again."""
    tracker = TaskTracker("t", 1, listener, call_later=timer)
    tracker.update_task(task_name="a", status=DONE)
    tracker.update_task(task_name="b", status=TaskStatus.IN_PROGRESS)
    timer.expire()
    assert listener.calls == []

    tracker.update_task(task_name="b", status=DONE, result=OK)
    timer.expire()

    assert len(listener.calls) == 1


def test_a_timer_that_fails_is_replaced(listener):
    """SR-08: the end does not depend on it."""

    def broken(delay, function):
        raise RuntimeError("not started")

    tracker = TaskTracker("t", 1, listener, call_later=broken, result_grace=0.01)
    tracker.update_task(task_name="a", status=DONE)

    assert tracker.wait_for_task_completion(timeout=30)
    assert len(listener.calls) == 1


def test_who_forgot_the_command_has_failed(listener):
    """SR-09, A-5: NOT_FOUND is final, and no result is awaited."""
    tracker = TaskTracker("t", 1, listener)
    tracker.update_task(task_name="a", status=TaskStatus.NOT_FOUND)

    assert listener.last["status"] is TaskStatus.FAILED
    assert listener.last["result"][0] is ResultCode.UNKNOWN
    assert listener.last["health_state"] == "FAILED"


def test_staging_is_never_final():
    """SR-09."""
    assert after(status=TaskStatus.STAGING).is_final is False
    assert after(status=TaskStatus.STAGING).status is TaskStatus.STAGING


@pytest.mark.parametrize("status", [5, "5", "COMPLETED", " completed ", TaskStatus.COMPLETED])
def test_a_status_may_be_a_number_or_a_name(status):
    """SR-10."""
    assert after(status=status).status is DONE


@pytest.mark.parametrize("status", [99, "LATE", True, 2.5, object(), [], b"5"])
def test_an_unknown_status_is_left_out_and_the_rest_is_used(status, caplog):
    """SR-10: and it is logged."""
    subtask = after(status=status, device_name="d", result=OK)

    assert (subtask.status, subtask.device_name) == (TaskStatus.QUEUED, "d")
    assert "cannot use status" in caplog.text


def test_a_status_never_goes_back():
    """SR-11: STAGING, QUEUED, IN_PROGRESS, final."""
    order = ["STAGING", "QUEUED", "IN_PROGRESS", "COMPLETED"]
    for later in range(1, 4):
        for earlier in range(later):
            tracker = TaskTracker("t", 2)
            tracker.update_task(task_name="a", status=order[later])
            tracker.update_task(task_name="a", status=order[earlier])
            assert tracker.subtasks["a"].status.name == order[later]


def expected_verdict(status, code):
    """Say it again, in other words than the code under test."""
    if status in {TaskStatus.STAGING, TaskStatus.QUEUED}:
        return Verdict.QUEUED
    if status is TaskStatus.IN_PROGRESS:
        return Verdict.RUNNING
    if TaskStatus.ABORTED is status or code is ResultCode.ABORTED:
        return Verdict.ABORTED
    if status is TaskStatus.REJECTED:
        return Verdict.REJECTED
    if status is not DONE:
        return Verdict.ABNORMAL
    return {
        ResultCode.FAILED: Verdict.FAILED,
        ResultCode.UNKNOWN: Verdict.FAILED,
        ResultCode.REJECTED: Verdict.REJECTED,
        ResultCode.NOT_ALLOWED: Verdict.REJECTED,
    }.get(code, Verdict.OK)


@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("code", [None, *ResultCode])
def test_each_pair_counts_in_one_class(status, code):
    """SR-12: all 8 by 8 pairs, and those without a code."""
    assert verdict_of(status, code) is expected_verdict(status, code)
    assert SubtaskResult("a", status, code).verdict is verdict_of(status, code)


def test_a_subtask_can_be_made_of_wire_values():
    """SR-02 to SR-10: for people who test their own policies."""
    subtask = SubtaskResult.from_report(
        "a",
        status="COMPLETED",
        result=json.dumps([3, "bad"]),
        device_name="d",
        devices=["d", "e", "d"],
        failed_devices="e",
        obs_mode=["B", "A"],
        health_state="DEGRADED",
    )

    assert (subtask.message, subtask.verdict) == ("d: bad", Verdict.FAILED)
    assert (subtask.devices, subtask.blamed_devices) == (("d", "e"), ("e",))
    assert (subtask.obs_mode, subtask.is_partial) == (("A", "B"), True)
