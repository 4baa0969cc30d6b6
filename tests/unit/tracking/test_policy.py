"""Which outcome wins."""

from functools import partial

import pytest

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking import (
    AggregationOutcome,
    PolicyRules,
    SubtaskResult,
    TaskAggregationPolicy,
    TaskTracker,
    join_result_codes,
)

COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED
DEGRADED, BROKEN = HealthState.DEGRADED, HealthState.FAILED

STATES = {
    "ok": (COMPLETED, ResultCode.OK),
    "failed": (COMPLETED, ResultCode.FAILED),
    "abnormal": (FAILED, ResultCode.FAILED),
    "rejected": (TaskStatus.REJECTED, ResultCode.REJECTED),
    "not allowed": (TaskStatus.REJECTED, ResultCode.NOT_ALLOWED),
    "aborted": (TaskStatus.ABORTED, ResultCode.ABORTED),
    "running": (TaskStatus.IN_PROGRESS, None),
    "queued": (TaskStatus.QUEUED, None),
    "staging": (TaskStatus.STAGING, None),
    "forgotten": (TaskStatus.NOT_FOUND, ResultCode.UNKNOWN),
}


def subtask(state, device=None, name="s", **more):
    """Make a subtask in one of the states above."""
    status, code = STATES[state]
    message = f"{device}: {state}" if device else ""
    return SubtaskResult(name, status, code, message, device, **more)


def judge(*states, task_name="task", obs_mode=None, rules=None, is_root=False, group_policy=None):
    """Judge subtasks given as "device state" or "state"."""
    subtasks = []
    for number, text in enumerate(states):
        device, _, state = text.rpartition("|")
        subtasks.append(subtask(state, device or None, f"s{number}"))
    policy = TaskAggregationPolicy(
        task_name,
        None,
        obs_mode,
        is_root,
        rules=rules or PolicyRules(),
        group_policy=group_policy,
    )
    return policy.aggregate(subtasks)


def short(outcome):
    """Return what of an outcome is not text."""
    return outcome.status.name, outcome.result_code.name, outcome.health_state


def test_the_same_list_gives_the_same_outcome_and_stays_as_it_is():
    """AG-01: a pure function with an AggregationOutcome."""
    policy = TaskAggregationPolicy("t")
    subtasks = [subtask("failed", "x"), subtask("ok")]
    before = list(subtasks)

    assert policy.aggregate(subtasks) == policy.aggregate(subtasks)
    assert subtasks == before
    assert isinstance(policy.aggregate(subtasks), AggregationOutcome)


def test_an_abort_dominates_the_end_but_not_the_work():
    """AG-02, A-4: at work as long as something is."""
    assert short(judge("aborted", "running")) == ("IN_PROGRESS", "STARTED", None)
    assert short(judge("aborted", "queued")) == ("IN_PROGRESS", "STARTED", None)
    assert short(judge("aborted", "ok")) == ("ABORTED", "ABORTED", None)


def test_an_abort_with_failures_names_both():
    """AG-02: the health is that of the failures."""
    outcome = judge("a|aborted", "b|failed", "c|ok")

    assert short(outcome) == ("ABORTED", "ABORTED", DEGRADED)
    assert outcome.message == "a: aborted\nb: failed"
    assert judge("aborted", "abnormal", "ok").health_state is BROKEN
    assert judge("aborted", "cbf|failed", "ok").health_state is BROKEN


def test_one_at_work_is_at_work():
    """AG-03: also when some are over and others have not begun."""
    assert short(judge("running", "ok", "failed")) == ("IN_PROGRESS", "STARTED", None)
    assert short(judge("ok", "queued")) == ("IN_PROGRESS", "STARTED", None)
    assert short(judge("abnormal", "staging")) == ("IN_PROGRESS", "STARTED", None)


def test_only_queued_is_queued():
    """AG-04."""
    assert short(judge("queued", "staging")) == ("QUEUED", "QUEUED", None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mid-cbf/sub/01", "CBF"),
        ("low-PST/beam/01", "PST"),
        ("mid-pss/cbf/1", "CBF"),
        ("low-pss/beam/01", "PSS"),
        ("mid-csp/control/0", "OTHER"),
    ],
)
def test_kinds_go_by_parts_of_names(name, kind):
    """AG-05: the first of the table wins, and the table can be another."""
    assert PolicyRules().kind_of(name) == kind
    assert PolicyRules(kinds={"sub": "ARRAY"}).kind_of("mid-cbf/Sub/01") == "ARRAY"


def test_failures_are_put_down_to_those_that_failed():
    """AG-06: `failed_devices`, else the device; here the critical one is fine."""
    one = subtask("failed", devices=("cbf/1", "pst/1"), failed_devices=("pst/1",))
    outcome = TaskAggregationPolicy("t").aggregate([one, subtask("ok")])

    assert short(outcome) == ("COMPLETED", "FAILED", DEGRADED)
    assert "pst/1: failed without message" in outcome.message
    assert "cbf/1" not in outcome.message


@pytest.mark.parametrize(
    ("state", "others", "expected"),
    [
        ("abnormal", ["pst|ok"], ("FAILED", "FAILED", BROKEN)),
        ("failed", ["pst|ok"], ("FAILED", "FAILED", BROKEN)),
        ("rejected", ["pst|ok"], ("REJECTED", "REJECTED", None)),
        ("rejected", ["pst|failed"], ("REJECTED", "REJECTED", BROKEN)),
        ("rejected", ["pst|failed", "ok"], ("REJECTED", "REJECTED", DEGRADED)),
        ("abnormal", ["pst|rejected", "x|aborted"], ("ABORTED", "ABORTED", BROKEN)),
    ],
)
def test_a_critical_device_decides(state, others, expected):
    """AG-07: whatever the others did, but for an abort."""
    assert short(judge(f"mid-cbf/1|{state}", *others)) == expected


def test_a_critical_subtask_without_devices_is_known_by_its_name():
    """AG-07: the fallback."""
    outcome = TaskAggregationPolicy("t").aggregate(
        [SubtaskResult("configure_cbf", COMPLETED, ResultCode.FAILED, "x"), subtask("ok")]
    )

    assert short(outcome) == ("FAILED", "FAILED", BROKEN)


def test_critical_and_optional_can_be_said_by_name():
    """AG-07, A-12: explicit names, optional before critical before kinds."""
    rules = PolicyRules(critical=("lab/laser",), optional=("cbf/spare", "lab/laser/9"))

    assert judge("LAB/laser/1|failed", "ok", rules=rules).status is FAILED
    assert short(judge("cbf/spare|abnormal", "ok", rules=rules)) == (
        "COMPLETED",
        "FAILED",
        DEGRADED,
    )
    assert judge("lab/laser/9|failed", "ok", rules=rules).health_state is DEGRADED


@pytest.mark.parametrize("name", ["configure_pst", "configureScan_pst", "allocate_resources_PST"])
def test_a_group_task_is_known_by_its_name(name):
    """AG-08: and the explicit flag wins, on the rules or on the policy."""
    states = ("pst/1|abnormal", "pst/2|ok")
    assert judge(*states, task_name=name).status is COMPLETED
    assert judge(*states, task_name=name, rules=PolicyRules(group_policy=False)).status is FAILED
    assert judge(*states, rules=PolicyRules(group_policy=True)).status is COMPLETED
    assert judge(*states, group_policy=True).status is COMPLETED
    assert judge(*states).status is FAILED


@pytest.mark.parametrize("name", ["pst_report", "configure_psthing", "appst", "mid-pst/01 on"])
def test_an_unlucky_name_is_no_group(name):
    """AG-08, A-12: only the end of the name after an underscore counts."""
    assert judge("x|abnormal", "y|ok", task_name=name).status is FAILED


@pytest.mark.parametrize(
    ("states", "expected", "detail"),
    [
        (["ok", "failed", "failed"], ("COMPLETED", "FAILED", DEGRADED), "PST success 1/3"),
        (["ok", "abnormal", "rejected"], ("COMPLETED", "FAILED", DEGRADED), "PST success 1/3"),
        (["failed", "failed"], ("COMPLETED", "FAILED", BROKEN), "PST success 0/2"),
        (["failed", "abnormal"], ("FAILED", "FAILED", BROKEN), "PST success 0/2"),
        (["rejected", "rejected"], ("REJECTED", "REJECTED", None), "PST success 0/2"),
        (["ok", "ok"], ("COMPLETED", "OK", None), "completed"),
    ],
)
def test_some_of_a_group_are_enough(states, expected, detail):
    """AG-09: the message says how many."""
    outcome = judge(*states, task_name="configure_pst")

    assert short(outcome) == expected
    assert outcome.message.splitlines()[0] == detail


@pytest.mark.parametrize(
    ("quorum", "ok", "enough"),
    [(3, 2, False), (3, 3, True), (0.5, 2, False), (0.5, 3, True), (9, 4, False), (1.0, 4, False)],
)
def test_the_quorum_is_a_count_or_a_share(quorum, ok, enough):
    """AG-10: of five; more than five means five."""
    rules = PolicyRules(min_success=quorum)
    outcome = judge(*["ok"] * ok, *["failed"] * (5 - ok), task_name="x_pst", rules=rules)

    assert outcome.health_state is (DEGRADED if enough else BROKEN)
    assert f"{ok}/5" in outcome.message


def test_a_share_is_not_rounded_up_by_a_rounding_error():
    """AG-10: seven per cent of a hundred is seven, though 0.07 * 100 is more."""
    rules = PolicyRules(min_success=0.07)
    states = ["ok"] * 7 + ["failed"] * 93

    assert judge(*states, task_name="x_pst", rules=rules).health_state is DEGRADED


@pytest.mark.parametrize("quorum", [-1, 1.5, -0.1, True, "1", None, float("nan")])
def test_a_quorum_out_of_range_is_refused(quorum):
    """AG-10: with the name of the setting."""
    with pytest.raises(ValueError, match="min_success"):
        PolicyRules(min_success=quorum)
    with pytest.raises(ValueError, match="quorums"):
        PolicyRules(quorums={"CBF": quorum})


def test_a_kind_within_a_task_of_many_can_have_its_own_quorum():
    """AG-10: losses within it degrade, losses beyond it fail the task."""
    rules = PolicyRules(quorums={"CBF": 2, "PST": 0.5})

    within = judge("cbf/1|ok", "cbf/2|ok", "cbf/3|abnormal", "pst/1|ok", rules=rules)
    below = judge("cbf/1|ok", "pst/1|ok", "pst/2|failed", "pst/3|failed", rules=rules)

    assert short(within) == ("COMPLETED", "FAILED", DEGRADED)
    assert "CBF success 2/3" in within.message
    assert short(below) == ("COMPLETED", "FAILED", BROKEN)
    assert "PST success 1/3, 2 needed" in below.message


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["ok", "abnormal"], ("FAILED", "FAILED", BROKEN)),
        (["ok", "failed"], ("COMPLETED", "FAILED", DEGRADED)),
        (["failed", "failed"], ("COMPLETED", "FAILED", BROKEN)),
        (["failed", "rejected"], ("COMPLETED", "FAILED", BROKEN)),
        (["ok", "forgotten"], ("FAILED", "UNKNOWN", BROKEN)),
        (["abnormal", "forgotten"], ("FAILED", "FAILED", BROKEN)),
    ],
)
def test_the_remaining_failures(states, expected):
    """AG-11: grave if abnormal, or if nothing succeeded."""
    assert short(judge(*states)) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["rejected", "rejected"], ("REJECTED", "REJECTED", None)),
        (["not allowed", "not allowed"], ("REJECTED", "NOT_ALLOWED", None)),
        (["not allowed", "rejected"], ("REJECTED", "REJECTED", None)),
        (["rejected", "ok"], ("COMPLETED", "FAILED", DEGRADED)),
        (["failed", "rejected", "ok"], ("COMPLETED", "FAILED", DEGRADED)),
        (["abnormal", "rejected", "ok"], ("FAILED", "FAILED", BROKEN)),
    ],
)
def test_rejections(states, expected):
    """AG-12: they do not hide a failure."""
    assert short(judge(*states)) == expected


def test_no_failure_is_completed():
    """AG-13: without an opinion about the health."""
    outcome = judge("ok", "ok")

    assert short(outcome) == ("COMPLETED", "OK", None)
    assert outcome.message == "completed"
    assert short(judge()) == ("COMPLETED", "OK", None)


def test_result_codes_join_in_the_given_order():
    """AG-14."""
    order = ["ABORTED", "FAILED", "NOT_ALLOWED", "REJECTED", "UNKNOWN", "STARTED", "QUEUED", "OK"]
    for number, name in enumerate(order):
        weaker = [ResultCode[other] for other in order[number:]]
        assert join_result_codes(reversed(weaker)) is ResultCode[name]
    assert join_result_codes([]) is ResultCode.OK


def test_a_policy_of_ones_own_reads_the_context():
    """AG-15, AG-16: made by the factory, for each context."""
    made = []

    class Mine:
        def __init__(self, *context):
            made.append(context)

        def aggregate(self, subtasks):
            return AggregationOutcome(COMPLETED, ResultCode.OK, f"{len(subtasks)} judged")

    tracker = TaskTracker("t", 1, operation="Scan", is_root=True, policy_factory=Mine)
    tracker.update_task(task_name="a", status=COMPLETED, result=(3, "bad"), obs_mode="IMAGING")

    assert made == [("t", "Scan", None, True), ("t", "Scan", "IMAGING", True)]
    assert tracker.overall_resultcode == (ResultCode.OK, "1 judged")


@pytest.mark.parametrize(
    ("obs_mode", "expected"),
    [
        (None, ("FAILED", "FAILED", BROKEN)),
        ("PULSAR_TIMING", ("FAILED", "FAILED", BROKEN)),
        (("IMAGING", "PULSAR_TIMING"), ("FAILED", "FAILED", BROKEN)),
        ("IMAGING", ("COMPLETED", "FAILED", DEGRADED)),
    ],
)
def test_timing_devices_matter_when_timing(obs_mode, expected):
    """AG-15: the rule applies only to an observation that has a mode."""
    assert short(judge("pst/1|abnormal", "x|ok", obs_mode=obs_mode)) == expected
    rules = PolicyRules(critical_kinds=("PST",))
    assert short(judge("pst/1|failed", "x|ok", obs_mode=obs_mode, rules=rules)) == expected


@pytest.mark.parametrize(
    ("obs_mode", "code"),
    [
        (None, ResultCode.FAILED),
        ("PULSAR_SEARCH", ResultCode.FAILED),
        (("IMAGING", "TRANSIENT_SEARCH"), ResultCode.FAILED),
        ("IMAGING", ResultCode.OK),
    ],
)
def test_search_devices_are_ignored_when_not_searching(obs_mode, code):
    """AG-15: unless there is nobody else."""
    assert judge("pss/1|abnormal", "x|ok", obs_mode=obs_mode).result_code is code
    assert judge("pss/1|abnormal", obs_mode=obs_mode).result_code is ResultCode.FAILED


def test_rules_come_in_by_the_factory():
    """AG-16: a partial of the policy will do."""
    rules = PolicyRules(critical=("laser",))
    tracker = TaskTracker("t", 2, policy_factory=partial(TaskAggregationPolicy, rules=rules))
    tracker.update_task(task_name="laser", status=COMPLETED, result=(3, "bad"))
    tracker.update_task(task_name="b", status=COMPLETED, result=(0, ""))

    assert tracker.get_status() is FAILED


def test_the_policy_is_asked_at_the_end_and_not_at_each_update():
    """AG-18: at work the counters answer."""
    asked = []

    class Counting(TaskAggregationPolicy):
        def aggregate(self, subtasks, /):
            asked.append(len(subtasks))
            return super().aggregate(subtasks)

    tracker = TaskTracker("t", 50, policy_factory=Counting)
    for number in range(50):
        tracker.update_task(task_name=f"s{number}", status="IN_PROGRESS")
        assert tracker.get_status() is TaskStatus.IN_PROGRESS
    for number in range(50):
        tracker.update_task(task_name=f"s{number}", status="COMPLETED", result=(0, ""))

    assert asked == [50]


def test_rules_are_values():
    """A-12: data that can be compared, hashed, shared, and given as mappings or pairs."""
    one = PolicyRules(kinds={"a": "A"}, optional_unless={"A": ["M"]}, critical="x")
    other = PolicyRules(kinds=[["a", "A"]], optional_unless=(("A", ("M",)),), critical=["x"])

    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(AttributeError):
        one.min_success = 2


@pytest.mark.parametrize("wrong", [{"max_causes": 0}, {"max_message_bytes": 10}])
def test_limits_out_of_range_are_refused(wrong):
    """MS-04: a message has room for at least one cause."""
    with pytest.raises(ValueError, match="max_causes"):
        PolicyRules(**wrong)


def test_a_child_judged_degraded_is_not_judged_again():
    """A-11: its health is joined, by the gravest, and not derived anew."""
    policy = TaskAggregationPolicy("t")
    partial_child = subtask("failed", health=DEGRADED, failed_devices=("cbf/1",))
    broken_child = subtask("failed", health=BROKEN)
    worried_child = subtask("ok", health=DEGRADED)

    assert short(policy.aggregate([partial_child])) == ("COMPLETED", "FAILED", DEGRADED)
    assert policy.aggregate([broken_child, subtask("ok")]).health_state is BROKEN
    assert short(policy.aggregate([worried_child])) == ("COMPLETED", "OK", DEGRADED)
