"""Signals that end a program, made to wait where half a step would leave something behind."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ENDING", "ending_signals_interrupt", "without_interruption"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a person, a supervisor or a closing terminal ends a program."""


@contextmanager
def without_interruption() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait until the block is left.

    What came is then sent again, to the handlers that were there before. Blocks must be short or
    have a deadline. Python runs signal handlers in the main thread only; elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    try:
        with _handled(keep):
            yield
    finally:
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


@contextmanager
def ending_signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise `KeyboardInterrupt` as SIGINT does, so that owners clean up."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    with _handled(interrupt):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # who is told to ignore a signal, as nohup and shells with background jobs do, goes on doing so
    numbers = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, old in before:
            # None: a handler that was not installed from Python
            signal.signal(number, signal.SIG_DFL if old is None else old)
