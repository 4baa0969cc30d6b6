"""Trees: construction, order, skipping and outcomes."""

import weakref

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks import MAX_DEPTH, LeafTask, Task, TaskType, Tolerance, lrc_payload


def test_a_composite_counts_its_subtasks_and_a_leaf_itself(stage):
    """TR-01: each node owns a tracker with as many subtasks as it has; a leaf has one."""
    root = stage.sequence("a", stage.parallel("b", "c", "d", name="group"))

    assert root.tracker.total_subtasks == 2
    assert root.subtasks[1].tracker.total_subtasks == 3
    assert all(leaf.tracker.total_subtasks == 1 for leaf in root.leaves())
    assert [leaf.name for leaf in root.leaves()] == ["a", "b", "c", "d"]
    assert root.size == 6
    assert root.depth == 3


def test_the_constructor_takes_its_arguments_by_position():
    """TR-01: name, type, skip_subtasks, completed_callback, is_root, logger."""
    leaf = LeafTask("a", "lab/a/1", "Go")

    root = Task("root", TaskType.PARALLEL, True, None, True, None, subtasks=[leaf])

    assert (root.name, root.task_type, root.skip_subtasks) == ("root", TaskType.PARALLEL, True)
    assert (leaf.target, leaf.command_name, leaf.parent) == ("lab/a/1", "Go", root)


def test_a_tree_that_cannot_work_cannot_be_built(stage):
    """TR-01: no empty composite, no name twice, no node in two trees, no leaf with subtasks."""
    taken = stage.leaf("x")
    stage.sequence(taken)

    with pytest.raises(ValueError, match="no subtasks"):
        stage.sequence()
    with pytest.raises(ValueError, match="'a' twice"):
        stage.sequence("a", "a")
    with pytest.raises(ValueError, match="belongs to 'root'"):
        stage.sequence(taken)
    with pytest.raises(ValueError, match="expected SEQUENTIAL or PARALLEL"):
        Task("a", TaskType.DEVICE, subtasks=[stage.leaf("b")])
    with pytest.raises(ValueError, match="needs an action"):
        LeafTask("a", "a", "Go", task_type=TaskType.INTERNAL)
    with pytest.raises(ValueError, match="kind of leaf"):
        LeafTask("a", "a", "Go", task_type=TaskType.PARALLEL)
    with pytest.raises(ValueError, match="empty text"):
        stage.leaf("")


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_positive_and_finite(stage, timeout):
    """TR-13: everything that waits has a deadline that can come."""
    with pytest.raises(ValueError, match="timeout"):
        stage.leaf("a", timeout=timeout)


def test_a_tree_of_sixteen_levels_works_and_one_of_seventeen_is_refused(stage):
    """TR-16: the depth is bounded."""
    node = stage.leaf("a")
    for level in range(MAX_DEPTH - 1):
        node = stage.sequence(node, name=f"level{level}")
    stage.start(node)

    stage.call("a").succeeds()

    assert stage.outcome["status"] is TaskStatus.COMPLETED
    deep = stage.leaf("b")
    for level in range(MAX_DEPTH - 1):
        deep = stage.sequence(deep, name=f"level{level}")
    with pytest.raises(ValueError, match="17 levels, expected 16"):
        stage.sequence(deep)


def test_a_tree_of_too_many_nodes_is_refused(stage):
    """TR-16: the number of nodes is bounded."""
    leaf = stage.leaf("a")
    leaf.size = 10_000  # stands for as many nodes

    with pytest.raises(ValueError, match="10001 nodes"):
        stage.sequence(leaf)


def test_a_sequence_starts_each_step_when_the_one_before_has_ended(stage):
    """TR-02: SEQUENTIAL."""
    stage.start(stage.sequence("a", "b", "c"))
    assert stage.children.called == ["lab/a/1"]

    stage.call("a").succeeds()
    assert stage.children.called == ["lab/a/1"], "the next step is for the runtime's thread"
    stage.settle()
    assert stage.children.called == ["lab/a/1", "lab/b/1"]

    stage.call("b").succeeds()
    stage.settle()
    stage.call("c").succeeds()

    assert stage.outcome["status"] is TaskStatus.COMPLETED
    assert stage.outcome["result"][0] is ResultCode.OK
    assert stage.outcome["progress"] == 100
    assert sorted(stage.outcome["devices"]) == ["lab/a/1", "lab/b/1", "lab/c/1"]


def test_a_parallel_task_starts_all_subtasks(stage):
    """TR-02: PARALLEL; it ends with the last."""
    stage.start(stage.parallel("a", "b", "c"))
    assert len(stage.children.calls) == 3

    for name in "bca":
        assert not stage.outcomes
        stage.call(name).succeeds()

    assert stage.outcome["result"][0] is ResultCode.OK


def test_start_returns_before_anything_has_started(stage):
    """TR-05: the thread that starts a command is not the one that runs it."""
    stage.parallel("a").start(stage.context)

    assert stage.children.calls == []


def test_a_task_runs_once(stage):
    """TR-01: a second start is a mistake of the program."""
    root = stage.start(stage.sequence("a"))

    with pytest.raises(RuntimeError, match="started before"):
        root.start(stage.context)


def test_steps_that_end_in_the_call_do_not_nest(stage):
    """TR-05: a thousand steps that end at once need no stack."""
    for number in range(1000):
        stage.children.habits[f"lab/s{number}/1"] = lambda call: call.succeeds()

    stage.start(stage.sequence(*(f"s{number}" for number in range(1000))))

    assert stage.outcome["result"][0] is ResultCode.OK
    assert stage.runtime.turns >= 1000


def test_a_failure_rejects_the_remaining_steps(stage):
    """TR-06: the second of three fails, the third is never called, the outcome is the second's."""
    root = stage.start(stage.sequence("a", "b", "c", skip_subtasks=True, is_root=True))
    stage.call("a").succeeds()
    stage.settle()
    stage.call("b").breaks("no beam")
    stage.settle()

    assert stage.children.called == ["lab/a/1", "lab/b/1"]
    assert stage.outcome["status"] is TaskStatus.FAILED
    assert stage.outcome["result"][0] is ResultCode.FAILED
    assert "lab/b/1: no beam" in stage.outcome["result"][1]
    assert "skipped" not in stage.outcome["result"][1]
    assert stage.outcome["failed_devices"] == ["lab/b/1"]
    skipped = root.snapshot()["children"][2]
    assert (skipped["status"], skipped["result_code"]) == ("REJECTED", "REJECTED")
    assert "'b' failed: lab/b/1: no beam" in skipped["message"]


def test_a_skipped_critical_step_does_not_hide_the_failure(stage):
    """TR-06, AG-07: the rejection of a skipped CBF step is not the outcome."""
    stage.start(stage.sequence("pst", "cbf", skip_subtasks=True))

    stage.call("pst").breaks()
    stage.settle()

    assert stage.outcome["status"] is TaskStatus.FAILED
    assert stage.outcome["failed_devices"] == ["lab/pst/1"]


def test_an_ordinary_failure_of_a_step_skips_too(stage):
    """TR-06: COMPLETED with a failure code is a failure."""
    stage.start(stage.sequence("a", "b", skip_subtasks=True))

    stage.call("a").fails()
    stage.settle()

    assert stage.outcome["status"] is TaskStatus.COMPLETED
    assert stage.outcome["result"][0] is ResultCode.FAILED


def test_without_the_flag_the_sequence_goes_on(stage):
    """TR-06: without skip_subtasks the steps after a failure run."""
    stage.start(stage.sequence("a", "b"))

    stage.call("a").fails()
    stage.settle()
    stage.call("b").succeeds()

    assert stage.outcome["result"][0] is ResultCode.FAILED
    assert stage.outcome["health_state"] == "DEGRADED"


def test_a_skipped_composite_is_rejected_down_to_its_leaves(stage):
    """TR-06: nothing below a skipped step is started."""
    group = stage.parallel("b", stage.sequence("c", "d", name="inner"), name="group")
    root = stage.start(stage.sequence("a", group, skip_subtasks=True))

    stage.call("a").fails()
    stage.settle()

    assert stage.children.called == ["lab/a/1"]
    assert stage.outcome["failed_devices"] == ["lab/a/1"]
    assert group.tracker.get_status() is TaskStatus.REJECTED
    assert root.statistics()["ended"] == 4


def test_a_sequence_that_does_not_say_skips_as_the_one_above(stage):
    """TR-06: skip_subtasks None is inherited, False is not overruled."""
    inherits = stage.sequence("a", "b", name="inherits")
    goes_on = stage.sequence("c", "d", name="goes_on", skip_subtasks=False)
    stage.start(stage.parallel(inherits, goes_on, skip_subtasks=True))

    stage.call("a").fails()
    stage.call("c").fails()
    stage.settle()

    assert "lab/b/1" not in stage.children.called
    stage.call("d").succeeds()


@pytest.mark.parametrize(
    ("tolerance", "goes_on"), [(Tolerance.NOTHING, False), (Tolerance.FAILURE, True)]
)
def test_the_failure_of_an_optional_step_does_not_stop_the_sequence(stage, tolerance, goes_on):
    """TR-06: what a step tolerates."""
    stage.start(stage.sequence(stage.leaf("a", tolerance=tolerance), "b", skip_subtasks=True))

    stage.call("a").breaks()
    stage.settle()

    assert ("lab/b/1" in stage.children.called) is goes_on
    if goes_on:
        stage.call("b").succeeds()


def test_a_partial_success_goes_on_where_it_is_enough(stage):
    """TR-06, AG-10: health DEGRADED is enough for a step that tolerates it."""
    group = stage.parallel("a", "b", name="group", tolerance=Tolerance.PARTIAL)
    stage.start(stage.sequence(group, "c", skip_subtasks=True))

    stage.call("a").succeeds()
    stage.call("b").fails()
    stage.settle()
    stage.call("c").succeeds()

    assert stage.outcome["health_state"] == "DEGRADED"


def test_one_ordinary_failure_among_many_degrades_all_the_way_up(stage):
    """AG-11: a leaf does not decide how grave its failure is."""
    stage.start(stage.sequence(stage.parallel("a", "b", "c", name="group"), is_root=True))

    stage.call("a").succeeds()
    stage.call("b").fails()
    stage.call("c").succeeds()

    assert stage.outcome["status"] is TaskStatus.COMPLETED
    assert stage.outcome["result"][0] is ResultCode.FAILED
    assert stage.outcome["health_state"] == "DEGRADED"
    assert stage.outcome["failed_devices"] == ["lab/b/1"]


def test_the_root_tells_its_progress_and_then_its_end(stage):
    """PR-03: progress climbs the tree; the completion is not among it."""
    stage.start(stage.parallel("a", "b"))

    stage.call("a").report(progress=50, status=TaskStatus.IN_PROGRESS)
    stage.call("a").succeeds()
    stage.call("b").succeeds()

    assert stage.progress == [20, 50]
    assert len(stage.outcomes) == 1


def test_the_payload_for_a_long_running_command_has_four_keys(stage):
    """CB-04: a strict callback takes it."""
    stage.start(stage.sequence("a"))
    stage.call("a").fails()

    def strict(status=None, progress=None, result=None, error=None):
        return status, progress, result[0]

    expected = (TaskStatus.COMPLETED, 100, ResultCode.FAILED)
    assert strict(**lrc_payload(stage.outcome)) == expected


def test_a_callback_that_raises_does_not_stop_the_tree(stage, caplog):
    """CB-06: it is logged, and the node above hears of the end all the same."""

    def broken(**payload):
        raise OSError("disk full")

    stage.start(stage.sequence(stage.leaf("a", completed_callback=broken)))
    stage.call("a").succeeds()

    assert stage.outcome["result"][0] is ResultCode.OK
    assert "disk full" in caplog.text


def test_a_snapshot_shows_the_whole_tree(stage):
    """TR-16: nested, with times in UTC, ready for JSON."""
    root = stage.start(stage.sequence("a", "b"))
    stage.runtime.advance(2.5)
    stage.call("a").succeeds()
    stage.settle()

    tree = root.snapshot()

    assert (tree["name"], tree["type"], tree["status"]) == ("root", "sequential", "IN_PROGRESS")
    assert (tree["started"], tree["finished"]) == ("2030-01-01T00:00:00+00:00", None)
    first, second = tree["children"]
    assert first == {
        "name": "a",
        "type": "device",
        "target": "lab/a/1",
        "command": "Go",
        "command_id": "1_lab/a/1_Go",
        "argument": None,
        "status": "COMPLETED",
        "result_code": "OK",
        "message": first["message"],
        "cause": None,
        "partial": False,
        "progress": 100,
        "started": "2030-01-01T00:00:00+00:00",
        "finished": "2030-01-01T00:00:02.500000+00:00",
        "children": [],
    }
    assert second["status"] == "QUEUED"
    assert second["started"] == "2030-01-01T00:00:02.500000+00:00"
    stage.call("b").succeeds()


def test_wait_returns_when_the_outcome_is_there(stage):
    """TT-16: any thread can wait for a tree."""
    root = stage.start(stage.sequence("a"))
    assert not root.wait(0.0)

    stage.call("a").succeeds()

    assert root.wait(0.0)


def test_a_policy_that_fails_does_not_leave_children_alone(stage):
    """TH-03: the task fails, and what runs below is asked to end."""

    class Broken:
        def aggregate(self, _):
            raise ZeroDivisionError

    root = stage.parallel("a", "b", policy_factory=lambda *_: Broken())
    stage.start(root)
    stage.call("a").fails()
    stage.call("b").fails()

    assert stage.outcome["status"] is TaskStatus.FAILED


def test_a_tracker_that_fails_before_its_time_leaves_nothing_running(stage):
    """TH-03: what runs below is asked to end, and nothing more is started."""
    root = stage.start(stage.sequence(stage.parallel("a", "b", name="group"), "c"))

    root.tracker._give_up(MemoryError("none left"))
    stage.settle()

    assert [call.aborts for call in stage.children.calls] == [1, 1]
    assert stage.children.called == ["lab/a/1", "lab/b/1"]
    assert stage.outcome["status"] is TaskStatus.FAILED
    assert root.statistics()["ended"] == 3


def test_the_owner_of_a_callback_is_let_go(stage):
    """TH-07: an ended tree that is kept for people to look at keeps nobody else alive."""

    class Owner:
        def told(self, **payload):
            stage.outcomes.append(payload)

    owner = Owner()
    root = stage.sequence("a", completed_callback=owner.told, progress_callback=owner.told)
    root.start(stage.context)
    stage.settle()
    stage.call("a").succeeds()
    alive = weakref.ref(owner)

    del owner

    assert alive() is None
    assert root.ended
