"""A parent's health and its causes."""

from milonga.control_model import HealthState
from milonga.devices import HealthBoard
from milonga.tasks import ChildSpec

CHILDREN = [
    ChildSpec(name="cbf-01", trl="tango://127.0.0.1:1/a/cbf/1", groups=("cbf",)),
    ChildSpec(name="pst-01", trl="a/PST/1", groups=("pst",)),
]


def test_nothing_is_known_at_first() -> None:
    """UNKNOWN until anything was heard."""
    assert HealthBoard(CHILDREN).verdict() == (HealthState.UNKNOWN, {})


def test_a_child_that_cannot_be_reached_degrades_and_recovers() -> None:
    """The cause is named, and goes when the child answers."""
    board = HealthBoard(CHILDREN)
    board.note_connection("a/PST/1", "its server is not running")
    assert board.verdict() == (
        HealthState.DEGRADED,
        {"a/pst/1": ["cannot be reached: its server is not running"]},
    )

    board.note_connection("a/PST/1", None)

    assert board.verdict() == (HealthState.OK, {})


def test_a_critical_child_makes_it_failed() -> None:
    """By its group, as policies name it."""
    board = HealthBoard(CHILDREN, critical=["cbf"])

    board.note_health("tango://127.0.0.1:1/a/cbf/1", HealthState.FAILED)

    assert board.verdict() == (HealthState.FAILED, {"a/cbf/1": ["reports health FAILED"]})


def test_all_children_make_it_failed() -> None:
    """Nobody left to do the work."""
    board = HealthBoard(CHILDREN)
    for child in CHILDREN:
        board.note_connection(child.trl, "gone")

    assert board.verdict()[0] is HealthState.FAILED


def test_a_failure_is_forgotten_when_the_device_works_again() -> None:
    """Only a command that the device took part in says so."""
    board = HealthBoard(CHILDREN)
    text = "Task Configure completed in DEGRADED state\nCauses:\n- a/pst/1: beam 1 lost lock"
    board.note_result({"devices": ["a/cbf/1", "a/pst/1"], "failed_devices": ["a/pst/1"]}, text)
    assert board.verdict() == (HealthState.DEGRADED, {"a/pst/1": ["beam 1 lost lock"]})

    board.note_result({"devices": ["a/cbf/1"]}, "fine")
    assert board.verdict()[0] is HealthState.DEGRADED

    board.note_result({"devices": ["a/pst/1"]}, "fine")
    assert board.verdict() == (HealthState.OK, {})


def test_a_child_out_of_service_does_not_count() -> None:
    """Until it is taken back."""
    board = HealthBoard(CHILDREN)
    board.note_connection("a/PST/1", "gone")
    board.take_out("a/PST/1", out=True)
    assert board.verdict() == (HealthState.OK, {})

    board.take_out("a/PST/1", out=False)

    assert board.verdict()[0] is HealthState.DEGRADED
