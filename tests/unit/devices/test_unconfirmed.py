"""Commands that were given up: how long they are remembered, and what a new Abort hears of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._tree_job import Ticket
from milonga.devices._unconfirmed import FOLLOW_AGAIN, UnconfirmedCommands
from milonga.lrc import ChildKind
from milonga.tasks import LeafTask
from milonga.tracking import AbortAnswer

from .conftest import Desk


class Child:
    """A child at which commands are followed."""

    def __init__(self) -> None:
        self.is_connected, self.reason = True, "it is away"
        self.kind = ChildKind.LRC
        self.tell: Callable[..., None] = lambda **_: None
        self.aborts = self.closed = self.resumed = 0
        self.is_linked = True

    def kind_of(self, _command: str) -> ChildKind:
        """Return how commands are followed."""
        return self.kind

    def resume(self, _trace: object, on_update: Callable[..., None], **_: object) -> Any:
        """Follow a command."""
        self.tell = on_update
        self.resumed += 1
        return SimpleNamespace(abort=self._abort, close=self._close, abort_grace=0.0)

    def _abort(self) -> None:
        self.aborts += 1

    def _close(self) -> None:
        self.closed += 1


class Room:
    """A device that gives commands up."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.child = Child()
        self.commands = UnconfirmedCommands(
            lambda _target: self.child if self.child.is_linked else None,  # type: ignore[arg-type,return-value]
            desk.call_later,
        )
        self.answers: list[tuple[AbortAnswer, str]] = []

    def give_up(self, number: int = 1) -> None:
        """Have a command time out with no word of the child."""
        leaf = LeafTask("leaf", "lab/a/1", "On", timeout=1.0)
        ticket = Ticket()
        ticket.command_id = f"17_{number}_On"
        leaf.observe(self.commands.watcher(ticket))
        leaf.start(self.desk.context)
        self.desk.settle()
        call = self.desk.calls[-1]
        call.abort = lambda: None  # type: ignore[method-assign]
        call.command_id = f"18_{number}_On"
        self.desk.pass_time(1.0)

    def ask(self) -> None:
        """Ask again for the end of what was given up."""
        (one,) = self.commands.all()
        one.ask(
            self.child,  # type: ignore[arg-type]
            lambda *answer: self.answers.append(answer),
            self.desk.call_later,
            3.0,
        )


@pytest.fixture
def room(desk: Desk) -> Room:
    """Give the device."""
    return Room(desk)


def test_a_command_that_was_given_up_is_followed_until_it_ends(room: Room) -> None:
    """And is then forgotten."""
    room.give_up()
    assert room.commands.as_data() == [
        {"device": "lab/a/1", "command": "On", "command_id": "18_1_On", "task": "17_1_On"}
    ]
    room.child.tell(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, "as asked"))
    assert room.commands.all() == ()
    assert room.child.closed == 1


LOST = {"status": TaskStatus.FAILED, "result": (ResultCode.UNKNOWN, "no answer for 10 s")}


def lose_sight(room: Room) -> None:
    """Have nobody know what became of the command."""
    room.child.tell(lost=True)
    room.child.tell(**LOST)


def test_a_command_that_is_lost_sight_of_is_looked_for_until_the_child_is_back(room: Room) -> None:
    """It may still run until then, and is over once the child does not know it."""
    room.give_up()
    for times in (1, 2, 3):
        assert room.child.resumed == times
        lose_sight(room)
        assert len(room.commands.all()) == 1
        room.desk.pass_time(FOLLOW_AGAIN)
    room.child.tell(**LOST)
    assert room.commands.all() == ()


def test_a_child_that_nobody_talks_to_is_looked_at_when_somebody_does_again(room: Room) -> None:
    """Its parent may be out of service meanwhile."""
    room.give_up()
    room.child.is_linked = False
    lose_sight(room)
    room.desk.pass_time(FOLLOW_AGAIN)
    assert room.child.resumed == 1
    room.child.is_linked = True
    room.desk.pass_time(FOLLOW_AGAIN)
    assert room.child.resumed == 2


def test_what_is_asked_for_meanwhile_is_not_looked_for_as_well(room: Room) -> None:
    """An Abort follows it itself."""
    room.give_up()
    lose_sight(room)
    room.ask()
    room.desk.pass_time(FOLLOW_AGAIN)
    assert room.child.resumed == 2


def test_an_abort_that_is_taken_counts_when_the_command_has_ended(room: Room) -> None:
    """Not before: the child has gone on once already."""
    room.give_up()
    room.ask()
    room.child.tell(abort_ack="ACK", abort_text="took AbortCommand")
    assert room.answers == []
    room.child.tell(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, ""))
    assert room.answers == [(AbortAnswer.ACK, "it has ended")]
    assert room.child.aborts == 1


def test_a_child_that_takes_the_abort_and_goes_on_has_not_answered(room: Room) -> None:
    """Within the patience of an Abort."""
    room.give_up()
    room.ask()
    room.child.tell(abort_ack="ACK", abort_text="took AbortCommand")
    room.desk.pass_time(3.0)
    text = "On may still run: took AbortCommand, but did not end within 3 s"
    assert room.answers == [(AbortAnswer.NO_ANSWER, text)]
    assert len(room.commands.all()) == 1


@pytest.mark.parametrize(("connected", "answer"), [(True, "NO_ANSWER"), (False, "UNREACHABLE")])
def test_silence_is_told_from_absence(room: Room, answer: str, *, connected: bool) -> None:
    """By whether the child was there when it was last looked at."""
    room.give_up()
    room.child.is_connected = connected
    room.ask()
    room.child.tell(abort_ack="NO_ANSWER", abort_text="no answer within 2.5 s")
    assert room.answers[0][0] == answer


def test_a_child_that_knows_no_ids_is_not_remembered(room: Room) -> None:
    """There is nothing to ask it."""
    room.child.kind = ChildKind.PLAIN
    room.give_up()
    assert room.commands.all() == ()


def test_the_oldest_are_forgotten_when_there_are_too_many(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is bounded."""
    monkeypatch.setattr(UnconfirmedCommands, "KEPT", 2)
    for number in (1, 2, 3):
        room.give_up(number)
    assert [one.command_id for one in room.commands.all()] == ["18_2_On", "18_3_On"]
    room.commands.close()
    assert room.commands.all() == ()
    assert room.child.closed == 3
