"""Whether an event loop answers, and where it is stuck if it does not."""

import asyncio
import selectors
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from milonga.errors import EngineBlockedError

__all__ = ["PATIENCE", "START_PATIENCE", "ask", "check_answers"]

PATIENCE = 0.5
"""Seconds after which a loop that stands still is given up; Tango's clients wait for 3 s in all."""

_STILL = 0.001
"""Seconds of a processor, in half of that time, below which a thread stands still."""

START_PATIENCE = 10.0
"""Seconds that a loop has whose thread only gets no processor, such as when a server starts."""


def ask(
    loop: asyncio.AbstractEventLoop,
    function: Callable[[], object],
    seconds: float = START_PATIENCE,
) -> None:
    """Have a loop call a function, and wait for that.

    Raises
    ------
    EngineBlockedError
        If it takes longer than `seconds`.
    """
    if not _posted(loop, function).wait(seconds):
        raise EngineBlockedError(_text(seconds, "something"))


def check_answers(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """See that a loop is not blocked; a thread that stands still is told from a slow one.

    Raises
    ------
    EngineBlockedError
        If it is, with the place where it waits.
    """
    answered = _posted(loop, lambda: None)
    if answered.wait(PATIENCE / 2):
        return
    before = _cpu_time(thread)
    if answered.wait(PATIENCE / 2):
        return
    place = _place(thread)
    if place and _cpu_time(thread) - before < _STILL:
        raise EngineBlockedError(_text(PATIENCE, place))
    if not answered.wait(START_PATIENCE - PATIENCE):
        raise EngineBlockedError(_text(START_PATIENCE, "something"))


def _posted(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> threading.Event:
    answered = threading.Event()

    def answer() -> None:
        function()
        answered.set()

    loop.call_soon_threadsafe(answer)
    return answered


def _text(seconds: float, place: str) -> str:
    return (
        f"the event loop of all engines: found it blocked for {seconds:g} s by {place}, which waits"
        " there instead of awaiting; expected it to answer"
    )


def _cpu_time(thread: threading.Thread) -> float:
    """Return the seconds for which a thread has used a processor, where that can be said."""
    if not (thread.is_alive() and hasattr(time, "pthread_getcpuclockid")):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))


def _place(thread: threading.Thread) -> str:
    """Return where the loop's thread is; empty if the loop only waits for work."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - no other way
    if frame is None or frame.f_code.co_filename == selectors.__file__:
        return ""
    while frame.f_code.co_filename == threading.__file__ and frame.f_back is not None:
        frame = frame.f_back  # who waits says more than what waiting is made of
    code = frame.f_code
    return f"{code.co_name} ({Path(code.co_filename).name}:{frame.f_lineno})"
