"""What a plan would do, found out by reading its messages and doing nothing of it."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from bluesky.utils import Msg

from milonga.control_model import ResultCode

__all__ = ["Foreseen", "ForeseenCall", "foresee"]

MESSAGES_READ = 5000
CALLS_LISTED = 50
SECONDS = 0.25
_MARGIN = 0.25

_TO_DEVICES = frozenset({"set", "trigger", "kickoff", "complete", "stop"})
_TO_CHILDREN = "invoke"


@dataclass(frozen=True)
class ForeseenCall:
    """Something that a device or a child would be asked for, and how many times."""

    target: str
    command: str
    argument: str | None
    is_child: bool
    times: int = 1


@dataclass(frozen=True)
class Foreseen:
    """What a plan would ask for, each thing where it comes first; and why there may be more."""

    calls: tuple[ForeseenCall, ...]
    more: str = ""


class _Done:
    """Stands for whatever a plan waits for."""

    done = success = True
    outcome = (ResultCode.OK, "")

    def result(self, timeout: float | None = None) -> None:
        """Return nothing."""

    def exception(self, timeout: float | None = None) -> None:
        """Return that there was none."""

    def add_callback(self, callback: Callable[["_Done"], object]) -> None:
        """Call it at once."""
        callback(self)


def foresee(plan: Generator[Msg, Any, Any], seconds: float = SECONDS) -> Foreseen:
    """Read a plan's messages, as far as that goes without devices and in so many seconds.

    None of them is carried out, but the plan's own code between them runs; on a thread of its own,
    which is left behind if that code blocks.

    Parameters
    ----------
    plan : generator
        The plan; it is used up.
    seconds : float, optional
        For how long to read.

    Examples
    --------
    >>> def twice():
    ...     for _ in range(2):
    ...         yield Msg("invoke", "cbf", "Scan", None)
    >>> foresee(twice()).calls
    (ForeseenCall(target='cbf', command='Scan', argument=None, is_child=True, times=2),)
    """
    reading = _Reading(plan, time.monotonic() + seconds)
    thread = threading.Thread(target=reading.read, name="milonga-foresight", daemon=True)
    thread.start()
    thread.join(seconds + _MARGIN)
    return reading.foreseen()


class _Reading:
    """Reads a plan on one thread; what it has read so far is for another."""

    def __init__(self, plan: Generator[Msg, Any, Any], end: float) -> None:
        self._plan = plan
        self._end = end
        self._times: dict[tuple[str, str, str | None, bool], int] = {}
        self._more = "it does not go on to its next message in time"

    def foreseen(self) -> Foreseen:
        """Return what was read."""
        more = self._more
        return Foreseen(tuple(ForeseenCall(*call, n) for call, n in [*self._times.items()]), more)

    def read(self) -> None:
        """Read until something stands against it."""
        try:
            self._more = self._read()
        except StopIteration:
            self._more = ""
        except Exception as error:  # noqa: BLE001 - anybody's code, which may need readings
            text = f"{type(error).__name__}: {error}"
            self._more = f"the rest depends on what devices say ({text})"
        _close(self._plan)

    def _read(self) -> str:
        answer: Any = None
        for number in itertools.count(1):
            message = self._plan.send(answer)
            call = _call(message)
            if call is not None:
                if call not in self._times and len(self._times) == CALLS_LISTED:
                    return f"more than {CALLS_LISTED} different calls"
                self._times[call] = self._times.get(call, 0) + 1
            if number >= MESSAGES_READ or time.monotonic() > self._end:
                return f"it goes on after {number} messages"
            answer = _answer(message)
        raise AssertionError("counting has no end")


def _call(message: Msg) -> tuple[str, str, str | None, bool] | None:
    if message.command == _TO_CHILDREN:
        command, *arguments = message.args
        return str(message.obj), str(command), arguments[0] if arguments else None, True
    if message.command in _TO_DEVICES:
        name = str(getattr(message.obj, "name", message.obj))
        argument = json.dumps(message.args[0], default=str) if message.args else None
        return name, message.command, argument, False
    return None


def _answer(message: Msg) -> Any:
    if message.command == "wait_for":
        return [_Done() for _ in message.args[0]]
    if message.command in _TO_DEVICES or message.command == _TO_CHILDREN:
        return _Done()
    return "not run" if message.command == "open_run" else None


def _close(plan: Generator[Msg, Any, Any]) -> None:
    try:
        plan.close()
    except Exception:  # noqa: BLE001 - a cleanup that has messages, none of which is sent
        return
