"""Progress that can be trusted, what a command waits for, and how long it still needs."""

import json
from fractions import Fraction

from milonga.control_model import ResultCode
from milonga.devices._task_tree import PERIOD
from milonga.devices._tree_progress import PLACES_KEPT, RecentDurations


def oracle(node, progress, weights):
    """Say how far a tree is: exact, by its definition."""
    if not node.subtasks:
        return Fraction(progress[node.target])
    known = [weights.get(child.path) for child in node.subtasks]
    seconds = [Fraction(weight) for weight in known if weight is not None]
    if seconds:
        mean = sum(seconds) / len(seconds)
        shares = [mean if weight is None else Fraction(weight) for weight in known]
    else:
        shares = [Fraction(sum(1 for _ in child.leaves())) for child in node.subtasks]
    parts = [oracle(child, progress, weights) for child in node.subtasks]
    return sum(part * share for part, share in zip(parts, shares, strict=True)) / sum(shares)


def test_progress_over_500_random_trees_equals_a_weighted_oracle_and_never_goes_back(trees, chance):
    """100 comes only with the end, and leaves that fall back do not take the tree with them.

    Half of the trees have children that tell trees of their own, late, wrong or falling back.
    """
    for seed in range(500):
        source = chance(seed)
        desk = trees.new_desk()
        desk.watched = False  # read instead, which makes a version each time
        root = trees.random_tree(source, levels=source.randint(1, 3))
        weights = {}
        for node in root.walk():
            if node.path and source.random() < 0.5:
                weights[node.path] = source.randint(1, 100) / 4
                desk.trees.history.note("Go", node.path, weights[node.path])
        desk.start(root)
        reached = {leaf.target: 0 for leaf in root.leaves()}
        last = 0
        while desk.turn(source):
            for _ in range(source.randint(0, 3) if seed % 2 else 0):
                desk.hear(source)
            desk.pass_time(2 * PERIOD)
            for call in desk.calls:
                told = desk.child_progress.get(call.target, 0)
                reached[call.target] = max(reached[call.target], min(99, call.progress), told)
                if call.ended:
                    reached[call.target] = 100
            (command,) = json.loads(desk.trees.text())["commands"]
            assert command["progress"] >= last
            assert (command["progress"] == 100) is root.ended
            if not root.ended:
                assert abs(command["progress"] - oracle(root, reached, weights)) <= 1
            last = command["progress"]
        assert last == 100


def test_the_time_left_is_what_the_last_runs_took(desk, trees):
    """Their median, so that one run that hung says nothing; a run that failed says nothing."""
    runs = [(4.0, "OK"), (6.0, "OK"), (500.0, "OK"), (0.1, "FAILED")]
    for number, (seconds, code) in enumerate(runs):
        desk.start(trees.group("Go", trees.leaf("a")), f"1_{number}_Go")
        desk.pass_time(seconds)
        desk.calls[-1].end(ResultCode[code])
        desk.pass_time(1.0)
    desk.start(trees.group("Go", trees.leaf("a")), "1_99_Go")
    desk.pass_time(2.0)
    early = json.loads(desk.trees.text())["commands"][-1]
    desk.pass_time(60.0)
    desk.calls[-1].accept()
    desk.pass_time(PERIOD)
    late = json.loads(desk.trees.text())["commands"][-1]

    assert (early["expected"], late["expected"]) == (6.0, 6.0)
    assert 3.9 < early["eta"] < 6.1
    assert late["eta"] == 0.0


def test_a_clock_that_is_set_says_nothing_of_how_long_something_took(desk, trees):
    """Durations are measured by a clock that nobody sets."""
    desk.start(trees.group("Go", trees.leaf("a")), "1_1_Go")
    desk.pass_time(4.0)
    desk.skew = -3600.0
    desk.calls[-1].end()
    desk.pass_time(1.0)
    desk.start(trees.group("Go", trees.leaf("a")), "1_2_Go")
    desk.skew = 3600.0
    desk.pass_time(1.0)

    running = json.loads(desk.trees.text())["commands"][-1]

    assert running["expected"] == 4.0
    assert 2.0 < running["eta"] <= 4.0


def test_runs_before_this_process_count_until_there_are_new_ones():
    """What is read of them may come late."""
    history = RecentDurations()
    history.note("Go", ("b",), 1.0)
    history.seed([("Go", "", 7.0), ("Go", "", 9.0), ("Go", "b", 50.0), ("Go", "a/x/1", 3.0)])

    assert history.expected("Go") == 8.0
    assert history.expected("Go", ("b",)) == 1.0
    assert history.expected("Go", ("a", "x/1")) == 3.0


def test_a_sequence_names_its_step_and_a_fan_out_counts(desk, trees):
    """Phases are in words; what is waited for began first."""
    root = trees.group(
        "Go",
        trees.leaf("prepare"),
        trees.group("turn", trees.leaf("a"), trees.leaf("b")),
        parallel=False,
    )
    desk.start(root)
    desk.pass_time(PERIOD)
    first = json.loads(desk.trees.text())["commands"][0]
    desk.calls[0].end()
    desk.settle()
    desk.calls[1].end()
    desk.pass_time(PERIOD)
    second = json.loads(desk.trees.text())["commands"][0]

    assert first["phase"] == "prepare (1 of 2)"
    assert second["phase"] == "turn (2 of 2)"
    assert second["children"][1]["phase"] == "1 of 2 ended"
    assert [wait["device"] for wait in second["waits_for"]] == ["lab/b/1"]
    assert second["waiting"] == 1


def test_the_history_is_bounded():
    """However many commands and steps there are."""
    history = RecentDurations()
    for number in range(PLACES_KEPT + 10):
        history.note("Go", (str(number),), 1.0)

    assert history.expected("Go", ("0",)) is None
    assert history.expected("Go", (str(PLACES_KEPT),)) == 1.0
