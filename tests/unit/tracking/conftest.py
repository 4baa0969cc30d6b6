"""What the tests of the tracker share: a listener that remembers and a timer that obeys."""

from collections.abc import Callable
from typing import Any

import pytest


class Listener:
    """Remembers the keywords of every call."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **payload: Any) -> None:
        """Remember a call."""
        self.calls.append(payload)

    @property
    def last(self) -> dict[str, Any]:
        """The newest call."""
        return self.calls[-1]

    @property
    def completions(self) -> list[dict[str, Any]]:
        """The calls that have a result."""
        return [call for call in self.calls if "result" in call]

    @property
    def progress(self) -> list[int]:
        """The values of the calls before the completion."""
        return [call["progress"] for call in self.calls if "result" not in call]


class Scheduled:
    """A call that the manual timer was asked for."""

    def __init__(self, delay: float, function: Callable[[], None]) -> None:
        self.delay = delay
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class ManualTimer:
    """A `call_later` whose time passes when the test says so."""

    def __init__(self) -> None:
        self.scheduled: list[Scheduled] = []

    def __call__(self, delay: float, function: Callable[[], None]) -> Scheduled:
        """Remember what to call."""
        entry = Scheduled(delay, function)
        self.scheduled.append(entry)
        return entry

    def expire(self) -> None:
        """Let the time of all that was asked for pass."""
        due, self.scheduled = self.scheduled, []
        for entry in due:
            if not entry.cancelled:
                entry.function()


@pytest.fixture
def listener() -> Listener:
    """Return a callback that remembers."""
    return Listener()


@pytest.fixture
def timer() -> ManualTimer:
    """Return a timer that waits for the test."""
    return ManualTimer()
