"""Signals that end a program wait while something half done would be left behind."""

import signal
from collections.abc import Iterator

import pytest

from milonga.deploy import ending_signals_interrupt
from milonga.deploy._signals import without_interruption


@pytest.fixture(autouse=True)
def _signals_as_on_a_terminal() -> Iterator[None]:
    """Shells make background jobs ignore Ctrl-C, and then there is nothing to see here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """A program under nohup does not end when its terminal closes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with ending_signals_interrupt(), without_interruption():
        signal.raise_signal(signal.SIGHUP)

    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def interrupted_step(done: list[str], *, number: int = signal.SIGINT, fails: bool = False) -> None:
    """Do a step of several parts, and get a signal after the first of them."""
    with without_interruption():
        signal.raise_signal(number)
        done.append("the rest of the step")
        if fails:
            raise ValueError("the step failed")


def test_ctrl_c_waits_until_the_step_is_done() -> None:
    """The step is finished, then the interrupt comes."""
    done: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        interrupted_step(done)

    assert done == ["the rest of the step"]


def test_sigterm_interrupts_like_ctrl_c() -> None:
    """So that `finally` blocks run when a supervisor ends the program."""
    before = signal.getsignal(signal.SIGTERM)

    with ending_signals_interrupt(), pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_waits_for_the_outermost_step() -> None:
    """Steps may be made of steps."""
    done: list[str] = []

    def outer_step() -> None:
        with without_interruption():
            interrupted_step(done, number=signal.SIGHUP)
            done.append("the outer step")

    with ending_signals_interrupt(), pytest.raises(KeyboardInterrupt):
        outer_step()

    assert done == ["the rest of the step", "the outer step"]


def test_a_failed_step_still_lets_the_signal_through() -> None:
    """The interrupt wins, and the failure is its context."""
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted_step([], fails=True)

    assert isinstance(caught.value.__context__, ValueError)
