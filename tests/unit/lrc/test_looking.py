"""Looks and watches go on, whatever a device answers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc._invocation import Invocation
from milonga.lrc._looking import Looks
from milonga.lrc._watching import Watches

STARTED = "2030-01-01T00:00:00+00:00"


class Turns:
    """A network whose threads are the test's."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def run(self, function: Callable[[], None], **_: object) -> object:
        """Run it now; what it raises is logged by the real one."""
        try:
            function()
        except ZeroDivisionError:
            return True
        return True

    def call_later(self, _delay: float, function: Callable[[], None]) -> SimpleNamespace:
        """Keep it for `turn`."""
        self.later.append(function)
        return SimpleNamespace(cancel=lambda: None)

    def turn(self) -> None:
        """Make the calls that are due."""
        due, self.later = self.later, []
        for function in due:
            function()


class Link:
    """A link whose device answers as the test says."""

    def __init__(self, *answers: object) -> None:
        self.name = "a/b/c"
        self.network = Turns()
        self.answers = list(answers)
        self.start = self.start_known = STARTED
        self.tables: list[object] = [(), (), (), STARTED]
        self.lrc = SimpleNamespace(resume=self._answer)
        self.foreign = SimpleNamespace(heard=lambda: None, silent=lambda _reason: None)

    def proxy(self) -> Any:
        """Return the device."""
        return self

    connect = reconnect = proxy

    def ping(self) -> None:
        """Answer."""

    def attributes(self) -> frozenset[str]:
        """Return what tells since when it runs."""
        return frozenset({"startedAt"})

    def commands(self) -> frozenset[str]:
        """Return none."""
        return frozenset()

    def read_start(self) -> str:
        """Return since when the server runs now."""
        return self.start

    def read_attributes(self, _names: list[str]) -> list[SimpleNamespace]:
        """Return the tables, or raise what is next."""
        self._answer()
        return [SimpleNamespace(value=value) for value in self.tables]

    def _answer(self) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer


class Carrier:
    """What an invocation is followed by."""

    name = "a/b/c"

    def __getattr__(self, _name: str) -> Callable[..., float]:
        return lambda *_: 0.0


def refused() -> tango.DevFailed:
    """Return what Tango says when nobody listens where a server was."""
    error = tango.DevError()
    error.reason, error.desc = "API_CantConnectToDevice", "connection refused"
    return tango.DevFailed(error)


def looked_at(link: Link, protocol: int = 2) -> tuple[Looks, Invocation, list[dict[str, object]]]:
    """Return the looks of a link at one command, and what is told of that."""
    told: list[dict[str, object]] = []
    invocation = Invocation(Carrier(), "On", None, lambda **news: told.append(news))  # type: ignore[arg-type]
    invocation.command_id, invocation.signs = "1_2_On", True
    invocation.server_start = STARTED
    looks = Looks(link, lambda: {"1_2_On": (invocation,)}, lambda: protocol)  # type: ignore[arg-type]
    return looks, invocation, told


def test_looks_go_on_after_an_answer_that_nobody_expected() -> None:
    """A look that failed in an odd way was the last one of that device."""
    link = Link(ZeroDivisionError("odd"), None, None)
    looks, invocation, _ = looked_at(link)
    looks.later()
    for number in range(1, 4):
        link.network.turn()
        assert looks.statistics()["looks"] == number
    assert invocation.missing == 2


def test_a_last_look_at_a_server_that_is_gone_says_so() -> None:
    """LOST with the start of the server, whatever the deadline; not that it was late."""
    link = Link(refused())
    looks, invocation, told = looked_at(link)
    looks.at(invocation)
    outcome = invocation.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.FAILED, ResultCode.UNKNOWN)
    assert f"no answer from its server, started at {STARTED}: " in outcome.message
    assert {"lost": True} in told
    assert "looked" in told[-1]
    link.answers.append(refused())
    looks.at(invocation)
    assert looks.statistics()["lost"] == 1, "the same command, though it was looked at again"


def test_a_last_look_needs_no_second_one_to_see_a_restart() -> None:
    """With both start times."""
    link = Link()
    link.start = "2030-01-01T00:00:07+00:00"
    looks, invocation, told = looked_at(link)
    looks.at(invocation)
    outcome = invocation.outcome()
    assert outcome is not None
    assert f"started anew at {link.start}" in outcome.message
    assert f"had been started at {STARTED}" in outcome.message
    assert not [news for news in told if news.get("lost")]


def test_the_start_that_counts_is_that_of_the_server_which_has_the_command() -> None:
    """Tango may have connected anew by itself, to a server that was restarted before the call."""
    link = Link()
    looks, invocation, _ = looked_at(link)
    link.start = link.start_known = "2030-01-01T00:00:07+00:00"
    link.tables = [(), ('{"uid": "1_2_On", "name": "On"}',), (), link.start]
    looks.later()
    link.network.turn()
    assert invocation.server_start == link.start


OVERTAKEN = [("1_2_On", "COMPLETED", "3_4_Abort", "COMPLETED"), (), ("3_4_Abort", '[0, "done"]')]
"""What a device of version 1 shows of a command when another one has ended since."""


def test_a_success_whose_result_was_another_commands_by_then_is_none() -> None:
    """Version 1 tells the result of one command only; it was told as OK, whatever it had been."""
    link = Link()
    link.tables = list(OVERTAKEN)
    looks, invocation, told = looked_at(link, protocol=1)
    looks.later()
    link.network.turn()
    assert not invocation.is_done, "the event with its result may be on its way"
    link.network.turn()
    outcome = invocation.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.COMPLETED, ResultCode.UNKNOWN)
    assert outcome.message == "a/b/c: ended as COMPLETED, but its result is not kept any more"
    assert {"alive": True} in told


@pytest.mark.parametrize(
    ("known", "result", "code"),
    [
        ([3, "no power"], OVERTAKEN[2], ResultCode.FAILED),
        (None, ("1_2_On", '[3, "no power"]'), ResultCode.FAILED),
        (None, ("", ""), ResultCode.OK),
        (None, (), ResultCode.OK),
    ],
    ids=["told by its event", "still there", "no command had any", "nothing"],
)
def test_a_result_that_was_told_or_never_given_needs_no_second_look(
    known: object, result: tuple[str, ...], code: ResultCode
) -> None:
    """A device may give none at all."""
    link = Link()
    link.tables = [*OVERTAKEN[:2], result]
    looks, invocation, _ = looked_at(link, protocol=1)
    invocation.update(result=known)
    looks.later()
    link.network.turn()
    outcome = invocation.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.COMPLETED, code)


def test_the_last_look_at_a_success_without_its_result_is_the_last() -> None:
    """Nothing is waited for any more."""
    link = Link()
    link.tables = list(OVERTAKEN)
    looks, invocation, _ = looked_at(link, protocol=1)
    looks.at(invocation)
    outcome = invocation.outcome()
    assert outcome is not None
    assert outcome.result_code is ResultCode.UNKNOWN


@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), None])
def test_who_waits_for_a_last_look_is_always_told(error: Exception | None) -> None:
    """Whatever becomes of it."""
    looks, invocation, told = looked_at(Link(error))
    looks.at(invocation)
    assert told[-1] == {"looked": True}


def test_a_watch_goes_on_after_an_answer_that_nobody_expected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says so once, and finds the device again."""
    link = Link(ZeroDivisionError("odd"), ZeroDivisionError("odd"), None)
    watches = Watches(link)  # type: ignore[arg-type]
    watches.keep()
    assert not watches.is_connected
    assert watches.reason == "ZeroDivisionError: odd"
    link.network.turn()
    assert not watches.is_connected
    link.network.turn()
    assert watches.is_connected
    assert len([record for record in caplog.records if "cannot be watched" in record.message]) == 1
