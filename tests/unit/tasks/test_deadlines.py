"""Deadlines as a tree: handed down, extended up to a cap, and missed in one way only."""

import random
import threading

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks import ChildSpec, CommandMap, ExecutionContext, InternalCall, compose

COMPLETED = (TaskStatus.COMPLETED, ResultCode.OK)
TIMED_OUT = (TaskStatus.FAILED, ResultCode.FAILED)
REPEATS = 1000


def context_of(stage, **more):
    """Return a context on the stage's time."""
    return ExecutionContext(stage.runtime, stage.children, clock=lambda: stage.runtime.time, **more)


def outcome_of(stage):
    """Return status and code of the root."""
    return stage.outcome["status"], stage.outcome["result"][0]


class TimedChildren:
    """Children that can be told how long they may take."""

    def __init__(self, children):
        self.children = children
        self.seconds = {}

    def invoke(self, target, command, argument, on_update):
        """Start a command that has no limit."""
        return self.children.invoke(target, command, argument, on_update)

    def invoke_within(self, target, command, argument, on_update, seconds):
        """Start a command that has one."""
        self.seconds[target] = seconds
        return self.invoke(target, command, argument, on_update)


def test_a_child_is_told_the_time_that_is_left_less_the_margin(stage):
    """Row 33: what the steps before have taken is not there any more."""
    children = TimedChildren(stage.children)
    stage.context = ExecutionContext(
        stage.runtime, children, clock=lambda: stage.runtime.time, deadline_margin=0.25
    )
    root = stage.start(stage.sequence("a", "b", timeout=10.0))
    stage.runtime.advance(4.0)
    stage.call("a").succeeds()
    stage.settle()
    stage.call("b").succeeds()
    stage.settle()

    assert children.seconds == {"lab/a/1": 9.75, "lab/b/1": 5.75}
    assert root.ended


def test_a_child_without_a_deadline_is_told_none(stage):
    """Nothing is invented."""
    children = TimedChildren(stage.children)
    stage.context = ExecutionContext(stage.runtime, children, clock=lambda: stage.runtime.time)
    stage.start(stage.parallel("a"))
    stage.call("a").succeeds()
    assert children.seconds == {}


def test_when_the_time_is_up_the_rest_is_aborted_and_the_cause_is_told(stage):
    """Row 34: TIMED_OUT in payload and snapshot, FAILED with a clear text on the wire."""
    root = stage.start(stage.parallel("a", "b", timeout=2.0))
    stage.call("a").succeeds()
    stage.runtime.advance(2.0)

    assert outcome_of(stage) == TIMED_OUT
    assert stage.outcome["cause"] == "TIMED_OUT"
    assert "lab/b/1: timed out after 2 s" in stage.outcome["result"][1]
    assert stage.call("b").aborts == 1
    snapshot = root.snapshot()
    assert snapshot["cause"] == "TIMED_OUT"
    assert [child["cause"] for child in snapshot["children"]] == [None, "TIMED_OUT"]


def test_a_child_that_says_that_its_time_was_up_is_believed(stage):
    """It was told a deadline that lies before its parent's."""
    stage.start(stage.parallel("a"))
    stage.call("a").breaks("timed out after 9.75 s")
    assert stage.outcome["cause"] == "TIMED_OUT"


def test_failures_of_different_kinds_have_no_common_cause(stage):
    """A timeout does not hide a bug."""
    stage.start(stage.parallel("a", "b", timeout=2.0))
    stage.call("a").breaks("bug")
    stage.runtime.advance(2.0)
    assert "cause" not in stage.outcome


def test_a_lost_child_is_the_cause(stage):
    """Nobody knows what became of it."""
    stage.start(stage.parallel("a"))
    stage.call("a").ends(TaskStatus.FAILED, ResultCode.UNKNOWN, "Go is lost")
    assert stage.outcome["cause"] == "LOST"


@pytest.mark.parametrize(("asked", "end"), [(3.0, 13.0), (5.0, 14.0), (100.0, 14.0)])
def test_work_may_ask_for_more_time_up_to_a_cap(stage, asked, end):
    """Rank 5: 10 s, 5 s more at 8 s, and not past the cap of 14 s."""
    calls = []

    def method(call: InternalCall) -> None:
        calls.append(call)

    root = stage.start(stage.parallel(stage.method("m", method), timeout=10.0, max_timeout=14.0))
    stage.runtime.advance(8.0)
    calls[0].extend(asked)
    stage.runtime.advance(end - 8.0 - 0.01)
    assert not root.ended
    stage.runtime.advance(0.02)

    assert root.ended
    assert outcome_of(stage) == TIMED_OUT
    assert f"timed out after {end:g} s" in stage.outcome["result"][1]


def test_what_goes_on_side_by_side_needs_more_time_only_once(stage):
    """Two leaves that ask for 3 s each are both helped by the same 3 s."""
    root = stage.start(stage.parallel("a", "b", timeout=10.0, max_timeout=30.0))
    for name in ("a", "b"):
        stage.call(name).report(extend=3.0)
    stage.runtime.advance(12.9)
    assert not root.ended
    stage.runtime.advance(0.2)
    assert root.ended


def test_who_called_a_root_is_asked_for_what_it_was_given(stage):
    """The cap of each level holds, and nothing is asked for in vain."""
    asked = []
    inner = stage.sequence("a", name="inner", timeout=5.0, max_timeout=7.0)
    root = stage.parallel(inner, timeout=10.0, max_timeout=11.0)
    root.on_extended = asked.append
    stage.start(root)
    for _ in range(3):
        stage.call("a").report(extend=1.5)
    assert asked == [1.0]  # of 1.5 and 0.5 that the inner one was given


def test_one_that_has_ended_asks_for_nothing_more(stage):
    """A late update must not move the deadline of the others."""
    root = stage.start(stage.parallel("a", "b", timeout=10.0, max_timeout=30.0))
    stage.call("a").succeeds()
    stage.call("a").report(extend=5.0)
    stage.runtime.advance(10.1)
    assert root.ended


@pytest.mark.parametrize("seconds", [5.0, -1.0, float("nan")])
def test_time_is_not_given_where_no_cap_says_so(stage, seconds):
    """A deadline that nobody said can move stays where it is."""
    calls = []
    root = stage.start(stage.parallel(stage.method("m", calls.append), timeout=10.0))
    stage.runtime.advance(8.0)
    calls[0].extend(seconds)
    stage.runtime.advance(2.0)
    assert root.ended


def test_a_step_that_follows_has_the_time_that_was_given_before(stage):
    """The extension is the whole command's."""
    calls = []
    steps = (stage.method("m", calls.append), "b")
    stage.start(stage.sequence(*steps, timeout=10.0, max_timeout=20.0))
    stage.runtime.advance(9.0)
    calls[0].extend(8.0)
    stage.runtime.advance(5.0)
    calls[0].update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))
    stage.runtime.advance(2.0)
    stage.call("b").succeeds()
    stage.settle()
    assert outcome_of(stage) == COMPLETED


# The last look


def looking(call, found=None):
    """Give a call a last look, which finds what it is told to."""

    def look_again():
        call.looks = getattr(call, "looks", 0) + 1
        if found is not None:
            found(call)
            call.report(looked=True)

    call.look_again = look_again
    return call


def test_a_result_that_no_event_told_is_found_by_the_last_look(stage):
    """Row 22: before a deadline is declared missed, the child is read once more."""
    root = stage.start(stage.parallel("a", timeout=2.0))
    looking(stage.call("a"), lambda call: call.succeeds())
    stage.runtime.advance(2.0)
    assert root.ended
    assert outcome_of(stage) == COMPLETED
    assert stage.call("a").aborts == 0


def test_a_last_look_that_finds_nothing_ends_the_wait(stage):
    """At once, not after the time that a look may take."""
    stage.start(stage.parallel("a", timeout=2.0))
    call = looking(stage.call("a"), lambda _: None)
    stage.runtime.advance(2.0)
    assert outcome_of(stage) == TIMED_OUT
    assert (call.looks, call.aborts) == (1, 1)


def test_a_last_look_that_hangs_is_not_waited_for_without_end(stage):
    """It has a second."""
    root = stage.start(stage.parallel("a", timeout=2.0))
    looking(stage.call("a"))
    stage.runtime.advance(2.9)
    assert not root.ended
    stage.runtime.advance(0.1)
    assert outcome_of(stage) == TIMED_OUT
    assert "timed out after 2 s" in stage.outcome["result"][1]


def test_no_further_step_begins_during_a_last_look(stage):
    """The time was up for the steps that follow, even if the present one has made it."""
    stage.start(stage.sequence("a", "b", timeout=2.0))
    looking(stage.call("a"), lambda call: call.succeeds())
    stage.runtime.advance(2.0)
    assert stage.children.called == ["lab/a/1"]
    assert outcome_of(stage) == TIMED_OUT
    assert "lab/b/1: timed out after 2 s before it started" in stage.outcome["result"][1]


# At the same moment


@pytest.mark.parametrize("look", [False, True])
def test_a_result_at_the_moment_of_the_deadline_gives_one_outcome(new_stage, look):
    """Rank 5: a thousand seeded repeats; what a node says agrees with what its root says."""
    for seed in range(REPEATS):
        rng = random.Random(seed)  # noqa: S311
        stage = new_stage()
        root = stage.start(stage.parallel("a", "b", timeout=2.0))
        for name in rng.sample("ab", 2):
            call = stage.call(name)
            if look:
                looking(call, rng.choice([None, lambda _: None, lambda c: c.succeeds()]))
            stage.runtime.call_later(2.0 - rng.choice([0.0, 0.0, 1e-9]), call.succeeds)
        if rng.random() < 0.5:  # the timers of one moment fire in the order in which they were set
            stage.runtime.call_later(2.0, root.abort)
        stage.runtime.advance(rng.choice([2.0, 5.0]))
        stage.runtime.advance(10.0)

        assert_consistent(root, stage.outcomes)


def test_a_result_at_the_moment_of_the_deadline_gives_one_outcome_in_threads(new_stage):
    """The same, with the deadline in one thread and the result in another."""
    for seed in range(REPEATS):
        rng = random.Random(seed)  # noqa: S311
        stage = new_stage()
        root = stage.start(stage.parallel("a", "b", timeout=2.0))
        calls = [stage.call("a"), stage.call("b")]
        start = threading.Barrier(2)

        spin_here, spin_there = rng.randrange(300), rng.randrange(300)

        def result(calls=calls, start=start, spin=spin_there):
            start.wait()
            for _ in range(spin):
                pass
            for call in calls:
                call.succeeds()

        thread = threading.Thread(target=result)
        thread.start()
        start.wait()
        for _ in range(spin_here):
            pass
        stage.runtime.advance(2.0)
        thread.join()
        stage.runtime.advance(10.0)

        assert_consistent(root, stage.outcomes)


def assert_consistent(root, outcomes):
    """Check that the root ended once, and as its leaves say."""
    assert len(outcomes) == 1
    outcome = (outcomes[0]["status"], outcomes[0]["result"][0])
    snapshot = root.snapshot()
    statuses = {(leaf["status"], leaf["cause"]) for leaf in snapshot["children"]}
    assert snapshot["status"] == outcome[0].name
    assert statuses <= {("COMPLETED", None), ("FAILED", "TIMED_OUT"), ("ABORTED", None)}
    if statuses == {("COMPLETED", None)}:
        assert outcome == COMPLETED
    elif ("ABORTED", None) in statuses:
        assert outcome[0] is TaskStatus.ABORTED
    else:
        assert outcome == TIMED_OUT
        assert outcomes[0]["cause"] == "TIMED_OUT"


# In the command map


def test_a_child_has_limits_of_its_own_for_commands():
    """Per child, by command; they win over what the map says of all."""
    spec = CommandMap.from_data(
        {"On": {"max_timeout": 60.0, "tasks": {"all": {"target": "*", "timeout": 5.0}}}}
    )["On"]
    slow = ChildSpec(name="slow", trl="a/slow/1", timeouts={"On": 30.0, "*": 7.0})
    other = ChildSpec(name="other", trl="a/other/1", timeouts={"Off": 1.0})
    root = compose("On", spec, None, [slow, other], {}, timeout=20.0)
    assert [leaf.timeout for leaf in root.leaves()] == [30.0, 5.0]
    assert (root.timeout, root.max_timeout) == (20.0, 60.0)
    assert slow.timeout_of("Standby") == 7.0
