"""Safety commands at devices that are told to end all to end one command."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import CommandRejected
from milonga.lrc import Invocation, _urgent
from milonga.lrc._traffic import LrcTraffic
from milonga.lrc._urgent import let_aborts_pass


class Carrier:
    """Takes an abort, and says nothing of it."""

    name = "lab/a/1"

    def abort(self, invocation: Invocation) -> None:
        """Take it."""

    def forget(self, invocation: Invocation) -> None:
        """Take note."""


def link_with(command: Invocation, *names: str) -> Any:
    """Return a link to a device with some commands, at which one runs."""
    lrc = SimpleNamespace(outstanding=lambda: [command])
    foreign = SimpleNamespace(outstanding=list)
    return SimpleNamespace(commands=lambda: frozenset(names), lrc=lrc, foreign=foreign)


def command(name: str) -> Invocation:
    """Return a command on its way."""
    return Invocation(Carrier(), name, None, None)  # type: ignore[arg-type]


def test_what_is_aborted_has_to_end_before_the_safety_command_is_sent() -> None:
    """Or it would be ended with it."""
    running, stow = command("Scan"), command("Stow")
    running.abort()
    ends = threading.Timer(
        0.05, lambda: running.update(TaskStatus.ABORTED, result=(ResultCode.ABORTED, "so"))
    )
    ends.start()
    let_aborts_pass(link_with(running, "Abort"), stow)
    assert running.is_done
    assert stow.patient_until > 0
    ends.join()


def test_what_may_be_ended_by_ending_all_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is allowed because the first wish was not heard, it comes seconds later."""
    monkeypatch.setattr(_urgent, "PATIENCE", 0.01)
    running, stow = command("Scan"), command("Stow")
    running.abort_all = True
    running.abort()
    let_aborts_pass(link_with(running, "Abort", "AbortCommand"), stow)
    assert stow.patient_until > 0


def test_nothing_is_waited_for_where_commands_are_aborted_one_by_one() -> None:
    """Nor where nothing is aborted."""
    running, stow = command("Scan"), command("Stow")
    let_aborts_pass(link_with(running, "Abort"), stow)
    running.abort()
    let_aborts_pass(link_with(running, "Abort", "AbortCommand"), stow)
    assert not running.is_done
    assert stow.patient_until == 0


def test_a_refusal_that_may_be_the_aborts_is_no_answer() -> None:
    """A device of ska-tango-base refuses everything until its Abort has ended."""
    answers = [CommandRejected("Queue is being aborted"), CommandRejected("so"), "1_2_Stow"]

    class Traffic(LrcTraffic):
        RETRY = 0.001

        def _call(self, *_: object) -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

    stow = command("Stow")
    stow.patient_until = float("inf")
    traffic = Traffic(SimpleNamespace(name="lab/a/1"))  # type: ignore[arg-type]
    given: Any = (stow, SimpleNamespace(), tango.DeviceData())
    assert traffic._call_patiently(*given) == "1_2_Stow"
