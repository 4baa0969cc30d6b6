"""A leaf of whose target nothing is heard is shown as stalled, long before its deadline."""

import pytest

from milonga.tasks import ExecutionContext


class Watcher:
    """An observer that wants to know of stalls, and of nothing else."""

    def __init__(self):
        self.told = []

    def node_started(self, node):
        """Ignore."""

    def node_accepted(self, leaf, command_id):
        """Ignore."""

    def node_progressed(self, node, progress):
        """Ignore."""

    def node_ended(self, node, payload):
        """Ignore."""

    def node_stalled(self, leaf, stalled):
        """Note."""
        self.told.append((leaf.name, stalled))


@pytest.fixture
def patient(stage):
    """Give a stage on which three seconds of silence are a stall."""
    stage.context = ExecutionContext(
        stage.runtime, stage.children, clock=lambda: stage.runtime.time, stall_after=3.0
    )
    return stage


def stalled_in(root):
    """Return the names of the leaves that the snapshot shows as stalled."""
    return [child["name"] for child in root.snapshot()["children"] if child.get("stalled")]


def test_silence_is_shown_and_a_sign_of_life_ends_it(patient):
    """Rank 7: STALLED before the timeout, cleared when the child speaks again."""
    watcher = Watcher()
    root = patient.parallel("a", "b")
    root.observe(watcher)
    patient.start(root)
    for _ in range(5):
        patient.runtime.advance(1.0)
        patient.call("b").report(alive=True)

    assert stalled_in(root) == ["a"]
    patient.call("a").report(progress=10)
    assert stalled_in(root) == []
    patient.call("a").succeeds()
    patient.call("b").succeeds()
    assert watcher.told == [("a", True), ("a", False)]


def test_a_leaf_that_has_not_begun_or_has_ended_is_not_stalled(patient):
    """Nobody is waited for there."""
    root = patient.start(patient.sequence("a", "b"))
    patient.runtime.advance(10.0)
    assert stalled_in(root) == ["a"]
    patient.call("a").succeeds()
    patient.settle()
    assert stalled_in(root) == []
    patient.call("b").succeeds()


def test_a_sign_of_life_is_no_update(patient):
    """It is counted nowhere, neither in time nor late."""
    root = patient.start(patient.parallel("a"))
    patient.call("a").succeeds()
    patient.call("a").report(alive=True)
    assert root.statistics()["late_updates"] == 0


def test_without_a_time_nothing_is_stalled(stage):
    """As for trees that run without devices."""
    root = stage.start(stage.parallel("a"))
    stage.runtime.advance(1000.0)
    assert stalled_in(root) == []
    stage.call("a").succeeds()
