"""Trees of all shapes, ended in all ways, in all orders."""

import threading
from itertools import count
from queue import Empty, Queue

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks import LeafTask, Task, TaskType
from milonga.tracking import PolicyRules, TaskAggregationPolicy

ENDS = {
    "ok": (TaskStatus.COMPLETED, ResultCode.OK),
    "failed": (TaskStatus.COMPLETED, ResultCode.FAILED),
    "broken": (TaskStatus.FAILED, ResultCode.FAILED),
    "rejected": (TaskStatus.REJECTED, ResultCode.REJECTED),
    "aborted": (TaskStatus.ABORTED, ResultCode.ABORTED),
}

ends = st.sampled_from(["ok", "ok", "ok", *ENDS])
trees = st.recursive(
    ends,
    lambda below: st.tuples(
        st.sampled_from(["seq", "skip", "par"]), st.lists(below, min_size=1, max_size=4)
    ),
    max_leaves=15,
)


def plain(*context):
    """Make a policy without kinds and groups, so that names do not matter."""
    return TaskAggregationPolicy(*context, rules=PolicyRules.minimal())


def built(spec, name="n"):
    """Return a tree for nested tuples, and what its leaves are to report."""
    if isinstance(spec, str):
        leaf = LeafTask(name, f"lab/{name}/1", "Go")
        return leaf, {leaf.target: spec}
    kind, below = spec
    children, script = [], {}
    for number, child in enumerate(below):
        node, part = built(child, f"{name}-{number}")
        children.append(node)
        script |= part
    task_type = TaskType.PARALLEL if kind == "par" else TaskType.SEQUENTIAL
    skip = {"seq": False, "skip": True, "par": None}[kind]
    return Task(name, task_type, skip, subtasks=children, policy_factory=plain), script


def oracle(spec, skips=False) -> tuple[str, set[str]]:
    """Say what comes of a tree, in words of `ENDS`, and which ends its leaves come to."""
    if isinstance(spec, str):
        return spec, {spec}
    kind, below = spec
    skips = {"seq": False, "skip": True, "par": skips}[kind]
    seen, leaves = [], set()
    for child in below:
        end, part = oracle(child, skips)
        seen.append(end)
        leaves |= part
        if kind == "skip" and end != "ok":
            break
    return joined(seen), leaves


def joined(seen: list[str]) -> str:
    """Join the ends of siblings as AG-02, AG-11 and AG-12 say."""
    if "aborted" in seen:
        return "aborted"
    if "broken" in seen:
        return "broken"
    if all(end == "rejected" for end in seen):
        return "rejected"
    return "ok" if all(end == "ok" for end in seen) else "failed"


def word(payload) -> str:
    """Return the word of `ENDS` for a completion."""
    pair = (payload["status"], payload["result"][0])
    return next(name for name, end in ENDS.items() if end == pair)


def open_calls(stage, ended):
    """Return the calls that have not ended."""
    return [call for call in stage.children.calls if call.target not in ended]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.randoms(use_true_random=False))
def test_every_tree_ends_once_as_its_leaves_say(new_stage, spec, random):
    """TR-01, TR-06: any shape, any outcomes, any order; each called leaf is let go once."""
    stage = new_stage()
    root, script = built(spec)
    stage.start(root)
    ended = set()
    while calls := open_calls(stage, ended):
        assert not stage.outcomes
        call = random.choice(calls)
        ended.add(call.target)
        status, code = ENDS[script[call.target]]
        if random.random() < 0.5:
            call.report(status=TaskStatus.IN_PROGRESS, progress=random.randrange(100))
        call.report(status=status, result=(code, "text"))
        call.report(status=TaskStatus.FAILED, result=(ResultCode.FAILED, "late"))
        stage.settle()

    expected, reached = oracle(spec)
    assert word(stage.outcome) == expected
    assert {script[target] for target in stage.children.called} == reached
    assert all(call.closes == 1 for call in stage.children.calls)
    assert root.statistics()["ended"] == len(script)
    assert stage.runtime.pending_timers == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.randoms(use_true_random=False), st.integers(0, 40))
def test_a_tree_that_is_aborted_at_any_moment_ends(new_stage, spec, random, moment):
    """TR-12: whatever the children do, it ends once, within the time that they have to confirm."""
    stage = new_stage()
    root, script = built(spec)
    stage.observe(root)
    if random.random() < 0.9:
        root.start(stage.context)
    ended = set()
    called = None
    for step in range(60):
        if step == moment:
            root.abort()
            called = len(stage.children.calls)
        stage.runtime.turn()
        calls = open_calls(stage, ended)
        if calls and random.random() < 0.5:
            call = random.choice(calls)
            ended.add(call.target)
            stubborn = call.aborts and random.random() < 0.5
            status, code = (TaskStatus.ABORTED, ResultCode.ABORTED)
            if not call.aborts:
                status, code = ENDS[script[call.target]]
            if not stubborn:
                call.report(status=status, result=(code, "text"))
    stage.runtime.advance(5.0)

    assert root.ended
    assert len(stage.outcomes) == 1
    assert all(call.closes == 1 for call in stage.children.calls)
    assert stage.runtime.pending_timers == 0
    assert len(stage.children.calls) == called, "nothing is started after an abort"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.floats(0.5, 5.0), st.randoms(use_true_random=False))
def test_a_tree_with_a_deadline_ends_by_then(new_stage, spec, seconds, random):
    """TR-13: whoever is silent, the whole ends at its deadline, and who ended before stands."""
    stage = new_stage()
    root, script = built(spec)
    root.timeout = seconds
    stage.start(root)
    answered = [call for call in stage.children.calls if random.random() < 0.5]
    for call in answered:
        call.ends(*ENDS[script[call.target]])
    stage.settle()

    stage.runtime.advance(seconds)

    assert len(stage.outcomes) == 1
    for leaf in root.leaves():
        assert leaf.ended
        if leaf.target in {call.target for call in answered}:
            code = leaf.tracker.overall_resultcode[0]
            assert code is ENDS[script[leaf.target]][1]


def test_a_thousand_waiting_leaves_occupy_no_thread(stage):
    """TR-05: the number of threads does not depend on the size of the tree."""
    before = threading.active_count()
    leaves = [LeafTask(f"l{n}", f"lab/l{n}/1", "Go", timeout=60.0) for n in range(1000)]
    root = stage.start(Task("root", TaskType.PARALLEL, subtasks=leaves))

    assert len(stage.children.calls) == 1000
    assert threading.active_count() < before + 10  # other tests' threads come and go
    for call in stage.children.calls:
        call.succeeds()
    assert stage.outcome["result"][0] is ResultCode.OK
    assert root.statistics()["ended"] == 1000


def test_updates_from_many_threads_and_an_abort_end_once(new_stage):
    """TR-07, TR-12: events come from any thread, and so does the abort."""
    for _ in range(20):
        stage = new_stage()
        leaves = [LeafTask(f"l{n}", f"lab/l{n}/1", "Go") for n in range(64)]
        root = stage.start(Task("root", TaskType.PARALLEL, subtasks=leaves))
        calls = stage.children.calls
        gate = threading.Barrier(9)

        def reports(part, gate=gate):
            gate.wait()
            for call in part:
                call.report(status=TaskStatus.IN_PROGRESS, progress=50)
                call.succeeds()
                call.fails()

        def aborts(root=root, gate=gate):
            gate.wait()
            root.abort()

        threads = [threading.Thread(target=reports, args=(calls[n::8],)) for n in range(8)]
        threads.append(threading.Thread(target=aborts))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert word(stage.outcome) == "ok"
        assert all(call.closes == 1 for call in calls)


def test_a_tree_on_a_real_thread_ends_once_whoever_aborts_when(new_stage, thread_runtime):
    """TR-05, TR-12: events from many threads, the runtime's own thread, and an abort."""
    numbers = count()
    for turn in range(40):
        stage = new_stage()
        calls = Queue()

        class Caller:
            def invoke(self, *request, calls=calls, call_type=stage.call_type):
                call = call_type(*request)
                call.confirms_aborts = True
                calls.put(call)
                return call

        groups = [
            stage.parallel(*(f"l{next(numbers)}" for _ in range(8)), name=f"group{number}")
            for number in range(4)
        ]
        root = stage.observe(stage.sequence(*groups))
        seen = []

        def answer(calls=calls, root=root, seen=seen):
            while not root.ended:
                try:
                    call = calls.get(timeout=0.01)
                except Empty:
                    continue
                seen.append(call)
                call.succeeds()

        threads = [threading.Thread(target=answer, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        root.start(stage.context_with(thread_runtime, Caller()))
        root.wait(0.0005 * (turn % 10))
        root.abort()
        assert root.wait(10.0)
        for thread in threads:
            thread.join()

        assert word(stage.outcome) in {"ok", "aborted"}
        assert all(leaf.ended for leaf in root.leaves())
        assert all(call.closes == 1 for call in seen)
