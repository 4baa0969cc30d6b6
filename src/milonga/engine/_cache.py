"""Devices that keep readings until they are asked for them, and one store that has bounds."""

import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from milonga.engine._status import Status

__all__ = ["CacheOverflow", "CacheStatistics", "DropPolicy", "HasCache", "RingCache"]


@runtime_checkable
class HasCache(Protocol):
    """What the `stash` and `clear_cache` messages ask of a device.

    The keys are those of readings, as `describe` has them: ``name-property``.
    """

    def stash(self, values: dict[str, Any]) -> Status:
        """Keep readings."""
        ...

    def clear(self) -> Status:
        """Drop what is kept."""
        ...


class DropPolicy(StrEnum):
    """What a full cache does with a new entry."""

    OLDEST = "oldest"
    NEWEST = "newest"
    RAISE = "raise"


class CacheOverflow(RuntimeError):
    """A cache is full and may drop nothing."""


@dataclass(frozen=True)
class CacheStatistics:
    """What a cache holds, and what it did so far."""

    entries: int
    size: int
    stored: int
    dropped: int
    cleared: int


class RingCache:
    """Keeps the latest readings, bounded in number and in bytes. Safe across threads.

    Parameters
    ----------
    max_entries : int, optional
        How many entries to keep.
    max_bytes : int, optional
        How much their values may take. An array counts with its `nbytes`.
    when_full : DropPolicy, optional
        Whether the oldest entries go, or the new one, or the status of the `stash` fails.

    Raises
    ------
    ValueError
        If a bound is not positive.

    Examples
    --------
    >>> cache = RingCache(max_entries=2)
    >>> for value in (1, 2, 3):
    ...     cache.stash({"det-x": {"value": value, "timestamp": 0.0}}).wait(1.0)
    >>> [entry["det-x"]["value"] for entry in cache.snapshot()]
    [2, 3]
    """

    def __init__(
        self,
        *,
        max_entries: int = 1000,
        max_bytes: int = 64 * 1024 * 1024,
        when_full: DropPolicy | str = DropPolicy.OLDEST,
    ) -> None:
        for name, bound in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if not bound > 0:
                raise ValueError(f"{name}: found {bound!r}, expected a number > 0")
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.when_full = DropPolicy(when_full)
        self._lock = threading.Lock()
        self._entries: deque[tuple[dict[str, Any], int]] = deque()
        self._size = 0
        self._stored = self._dropped = self._cleared = 0

    def stash(self, values: Mapping[str, Any]) -> Status:
        """Keep readings; the status fails with `CacheOverflow` if there is no room for them."""
        entry = dict(values)
        size = sum(map(_size_of, entry.values()))
        status = Status(name="stash")
        with self._lock:
            fits = self._make_room(size)
            if fits:
                self._entries.append((entry, size))
                self._size += size
                self._stored += 1
            else:
                self._dropped += 1
        if not fits and self.when_full is DropPolicy.RAISE:
            status.set_exception(
                CacheOverflow(
                    f"found no room for {size} bytes among {len(self)} entries; expected at most "
                    f"{self.max_entries} entries of {self.max_bytes} bytes in all"
                )
            )
        else:
            status.set_finished()
        return status

    def _make_room(self, size: int) -> bool:
        if self.when_full is DropPolicy.OLDEST and size <= self.max_bytes:
            while self._entries and not self._has_room(size):
                self._size -= self._entries.popleft()[1]
                self._dropped += 1
        return self._has_room(size)

    def _has_room(self, size: int) -> bool:
        return len(self._entries) < self.max_entries and self._size + size <= self.max_bytes

    def clear(self) -> Status:
        """Drop all entries; one that is being stashed meanwhile is kept or dropped as a whole."""
        with self._lock:
            self._cleared += len(self._entries)
            self._entries.clear()
            self._size = 0
        status = Status(name="clear")
        status.set_finished()
        return status

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the entries, oldest first."""
        with self._lock:
            return [dict(entry) for entry, _ in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def statistics(self) -> CacheStatistics:
        """Return what the cache holds and what it did so far."""
        with self._lock:
            return CacheStatistics(
                len(self._entries), self._size, self._stored, self._dropped, self._cleared
            )


def _size_of(reading: object) -> int:
    value = reading.get("value", reading) if isinstance(reading, Mapping) else reading
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(value)
