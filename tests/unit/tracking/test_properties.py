"""What holds for every order, every value and every interleaving."""

import random
import threading
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking import (
    SubtaskResult,
    TaskAggregationPolicy,
    TaskTracker,
    join_result_codes,
    parse_result,
)

codes = st.sampled_from(list(ResultCode))
finals = st.sampled_from(
    [
        TaskStatus.ABORTED,
        TaskStatus.NOT_FOUND,
        TaskStatus.COMPLETED,
        TaskStatus.REJECTED,
        TaskStatus.FAILED,
    ]
)
devices = st.sampled_from(["cbf/1", "cbf/2", "pst/1", "pst/2", "pss/1", "x/1", "y/1"])
modes = st.sampled_from([None, "IMAGING", "PULSAR_TIMING", ("IMAGING", "PULSAR_SEARCH")])
names = st.sampled_from(["configure", "configure_pst"])
healths = st.sampled_from([None, HealthState.DEGRADED, HealthState.FAILED])
subtasks = st.builds(
    SubtaskResult,
    name=st.sampled_from("abcdef"),
    status=finals | st.sampled_from(list(TaskStatus)),
    result_code=st.none() | codes,
    message=st.sampled_from(["", "bad", "x\ny"]),
    device_name=st.none() | devices,
    health=healths,
)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(codes, codes, codes)
def test_joining_codes_is_associative_commutative_and_idempotent(a, b, c):
    """AG-14."""
    join = join_result_codes
    assert join([join([a, b]), c]) is join([a, join([b, c])]) is join([a, b, c])
    assert join([a, b]) is join([b, a])
    assert join([a, a]) is a


@quick
@given(st.lists(subtasks, max_size=8), names, modes, st.randoms(use_true_random=False))
def test_the_outcome_does_not_depend_on_the_order(found, name, mode, chance):
    """AG-17: status, code, health, and the causes but for their order."""
    policy = TaskAggregationPolicy(name, obs_mode=mode, is_root=True)
    shuffled = list(found)
    chance.shuffle(shuffled)
    one, other = policy.aggregate(found), policy.aggregate(shuffled)

    assert (one.status, one.result_code, one.health_state) == (
        other.status,
        other.result_code,
        other.health_state,
    )
    assert sorted(one.message.split("\n")) == sorted(other.message.split("\n"))


@quick
@given(
    st.lists(st.tuples(finals, codes, devices), min_size=1, max_size=6),
    modes,
    st.randoms(use_true_random=False),
)
def test_a_tracker_does_not_depend_on_the_order_of_ends(ends, mode, chance):
    """AG-17: outcome, counts and devices; the subtasks registered in the same order."""
    told = []
    for order in (range(len(ends)), chance.sample(range(len(ends)), len(ends))):
        payload = {}
        tracker = TaskTracker("t", len(ends), payload.update, obs_mode=mode)
        tracker.set_completed_callback(lambda payload=payload, **more: payload.update(more))
        for number in range(len(ends)):
            tracker.update_task(task_name=f"s{number}", status="IN_PROGRESS")
        for number in order:
            status, code, device = ends[number]
            tracker.update_task(
                task_name=f"s{number}", status=status, result=(code, "text"), device_name=device
            )
        told.append(payload)

    assert told[0] == told[1]
    assert told[0]["counts"]["total"] == len(ends)


@quick
@given(st.lists(subtasks, min_size=1, max_size=8), names, modes)
def test_outcomes_make_sense(found, name, mode):
    """AG-02, AG-03, AG-13: final if and only if all are, OK only without an abort."""
    outcome = TaskAggregationPolicy(name, obs_mode=mode).aggregate(found)
    all_over = all(subtask.is_final for subtask in found)

    assert (outcome.status in {TaskStatus.IN_PROGRESS, TaskStatus.QUEUED}) is not all_over
    if all_over:
        aborted = any(
            TaskStatus.ABORTED is subtask.status or subtask.result_code is ResultCode.ABORTED
            for subtask in found
        )
        assert (outcome.status is TaskStatus.ABORTED) is aborted
        assert outcome.message


class Changing:
    """An object that answers differently each time, or raises."""

    def __init__(self, seed):
        self._chance = random.Random(seed)  # noqa: S311 - not for secrets

    def _answer(self, *_):
        kind = self._chance.randrange(4)
        if kind == 0:
            raise SystemExit
        return [None, 5, "text", self][kind]

    __str__ = __int__ = __index__ = __float__ = __iter__ = __next__ = __eq__ = _answer
    __hash__ = __len__ = __bool__ = __getitem__ = __repr__ = __getattr__ = _answer


anything = (
    st.from_type(object)
    | st.builds(Changing, st.integers(0, 1000))
    | st.lists(st.from_type(object), max_size=3)
    | st.tuples(st.from_type(object), st.from_type(object))
    | st.text()
    | st.integers()
    | st.floats()
)
wires = st.sampled_from(["status", "progress", "result", "error", "device_name", "devices"])
more_wires = st.sampled_from(
    ["failed_devices", "operation", "obs_mode", "source", "health_state", "counts", "other"]
)


@settings(quick, max_examples=200)
@given(st.lists(st.tuples(anything, st.dictionaries(wires | more_wires, anything)), max_size=8))
def test_an_update_never_raises(updates):
    """TH-02: and never breaks the tracking; the task can still end."""
    calls = []
    tracker = TaskTracker("t", 1, lambda **told: calls.append(told), result_grace=0)
    for name, fields in updates:
        tracker.update_task(task_name=name, **fields)
        tracker.update_task(task_name="a", **fields)
        assert 0 <= tracker.progress <= 100
    for name in [key if isinstance(key, str) else key[0] for key in tracker.subtasks] or ["a"]:
        tracker.update_task(task_name=name, status="COMPLETED", result=(0, ""))
    for name, device in [key for key in tracker.subtasks if isinstance(key, tuple)]:
        tracker.update_task(task_name=name, device_name=device, status=5, result=(0, ""))

    assert tracker.wait_for_task_completion(timeout=0)
    assert len(calls) == 1
    assert "tracking of t failed" not in calls[0]["result"][1]


@quick
@given(anything, st.none() | st.sampled_from(list(TaskStatus)))
def test_any_result_has_a_code_or_none_and_a_text(value, status):
    """SR-02 to SR-05."""
    code, text = parse_result(value, status)

    assert code is None or type(code) is ResultCode
    assert type(text) is str


@settings(quick, max_examples=15)
@given(st.integers(1, 12), st.integers(2, 8), st.integers(0, 2**32))
def test_any_interleaving_completes_once(total, threads, seed):
    """TT-14, PR-04, PR-05: one completion, last of all, after progress that only grows."""
    calls = []
    tracker = TaskTracker(
        "t",
        total,
        lambda **told: calls.append(told),
        notify_progress=True,
        progress_step=1,
        result_grace=0,
    )
    barrier = threading.Barrier(threads)

    def work(number):
        chance = random.Random(seed + number)  # noqa: S311 - not for secrets
        steps = [(name, step) for name in range(total) for step in range(4)]
        chance.shuffle(steps)
        barrier.wait()
        for name, step in steps:
            update = [
                {"status": "IN_PROGRESS"},
                {"progress": chance.randrange(100)},
                {"result": (ResultCode.OK, "")},
                {"status": "COMPLETED"},
            ][step]
            tracker.update_task(task_name=f"s{name}", **update)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert tracker.wait_for_task_completion(timeout=0)
    assert ["result" in call for call in calls] == [False] * (len(calls) - 1) + [True]
    told = [call["progress"] for call in calls]
    assert all(before < after for before, after in pairwise(told))
    assert told[-1] == 100
    assert calls[-1]["counts"]["ok"] == total


@quick
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-10, 110)), max_size=30))
def test_progress_told_only_grows(steps):
    """PR-05: whatever children report."""
    told = []
    tracker = TaskTracker(
        "t", 3, lambda **more: told.append(more["progress"]), notify_progress=True
    )
    for name, value in steps:
        tracker.update_task(task_name=name, progress=value)

    assert all(before < after for before, after in pairwise(told))
    assert all(value % 10 == 0 and 0 < value < 100 for value in told)
