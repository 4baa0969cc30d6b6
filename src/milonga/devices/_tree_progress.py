"""How far a command is, and how long it still needs, from how long it took before."""

import statistics
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["DurationHistory", "RecentDurations", "share", "time_left", "weights_of"]

RUNS_KEPT = 20
"""How many runs of a command its expected duration is the median of."""

PLACES_KEPT = 4096
"""Of how many nodes of trees, in all commands, durations are kept; of more, the latest."""

_SHORTEST = 0.001  # what took no time at all has a weight nevertheless


class DurationHistory(Protocol):
    """Knows how long commands took, and the steps of their trees. Safe across threads."""

    def note(self, command: str, path: tuple[str, ...], seconds: float) -> None:
        """Take note of how long a node took that succeeded; the root has an empty path."""

    def expected(self, command: str, path: tuple[str, ...] = ()) -> float | None:
        """Return the seconds that a node is expected to take; None if that is not known."""


class RecentDurations:
    """A history whose medians leave out the freak run. Safe across threads.

    Examples
    --------
    >>> history = RecentDurations()
    >>> for seconds in (2.0, 2.2, 60.0):
    ...     history.note("Configure", (), seconds)
    >>> history.expected("Configure")
    2.2
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def note(self, command: str, path: tuple[str, ...], seconds: float) -> None:
        """Take note of how long a node took."""
        with self._lock:
            self._note((command, "/".join(path)), seconds)

    def seed(self, durations: Iterable[tuple[str, str, float]]) -> None:
        """Take note of runs before this process, the oldest first; of what has run since, of none.

        Parameters
        ----------
        durations : iterable
            Command, the names on the way down to a node, joined by slashes, and seconds.
        """
        with self._lock:
            known = set(self._seconds)
            for command, way, seconds in durations:
                if (command, way) not in known:
                    self._note((command, way), seconds)

    def _note(self, key: tuple[str, str], seconds: float) -> None:
        self._seconds.setdefault(key, deque(maxlen=RUNS_KEPT)).append(seconds)
        self._seconds.move_to_end(key)
        while len(self._seconds) > PLACES_KEPT:
            self._seconds.popitem(last=False)

    def expected(self, command: str, path: tuple[str, ...] = ()) -> float | None:
        """Return the median of the last runs."""
        with self._lock:
            known = tuple(self._seconds.get((command, "/".join(path)), ()))
        return statistics.median(known) if known else None


def weights_of(expected: Sequence[float | None], sizes: Sequence[int]) -> tuple[float, ...]:
    """Return the weights of siblings: seconds where known, and the mean of those elsewhere.

    Where nothing is known, each weighs as much as it has leaves.

    Examples
    --------
    >>> weights_of([3.0, None, 1.0], sizes=[1, 5, 1])
    (3.0, 2.0, 1.0)
    >>> weights_of([None, None], sizes=[1, 5])
    (1.0, 5.0)
    """
    known = [max(seconds, _SHORTEST) for seconds in expected if seconds is not None]
    if not known:
        return tuple(map(float, sizes))
    mean = sum(known) / len(known)
    return tuple(mean if seconds is None else max(seconds, _SHORTEST) for seconds in expected)


def share(parts: Iterable[tuple[float, float]]) -> float:
    """Return the progress of a whole from (weight, progress) of its parts.

    Examples
    --------
    >>> share([(3.0, 100.0), (1.0, 0.0)])
    75.0
    """
    pairs = list(parts)
    whole = sum(weight for weight, _ in pairs)
    return sum(weight * progress for weight, progress in pairs) / whole if whole else 0.0


def time_left(expected: float | None, elapsed: float) -> float | None:
    """Return the seconds that something still needs; 0 when it is overdue."""
    return None if expected is None else max(0.0, expected - elapsed)
