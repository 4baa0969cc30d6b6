"""A latch that any thread may set and that plans wait for."""

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["LatchWait", "Mark", "SRLatch"]

Direction = Literal["set", "reset"]


@dataclass(frozen=True)
class Mark:
    """How often a latch had changed when somebody last looked."""

    sets: int
    resets: int

    def count(self, direction: Direction) -> int:
        """How often it had changed in one direction."""
        return self.sets if direction == "set" else self.resets


class LatchWait:
    """One wait for any of several latches; belongs to an event loop.

    Parameters
    ----------
    latches : mapping
        The latches, and how often each had changed when its waiter last looked.
    direction : {"set", "reset"}
        Which change to wait for.
    """

    __slots__ = ("_future", "_loop", "direction", "latches")

    def __init__(self, latches: Mapping["SRLatch", Mark], direction: Direction) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self.latches = latches
        self.direction = direction

    def wake(self) -> None:
        """Let the waiter look again; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return  # the loop was closed, so nobody waits

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - no exception wanted
        """Wait until one of the latches has changed; False if none did within `timeout` s."""
        try:
            for latch in self.latches:
                latch._park(self)  # noqa: SLF001 - same module
            if timeout is None:
                await self._future
                return True
            done, _ = await asyncio.wait({self._future}, timeout=timeout)
            return bool(done)
        finally:
            for latch in self.latches:
                latch._leave(self)  # noqa: SLF001 - same module


class SRLatch:
    """A flag with two stable sides, which threads set and reset and plans wait for.

    It is level-triggered: who waits for a side on which the latch stands goes on at once. A
    waiter that is parked is woken even if the latch flips back at once. Every method may be
    called from any thread; the waits belong to the event loop that awaits them.

    Examples
    --------
    >>> latch = SRLatch()
    >>> latch.set()
    >>> latch.is_set()
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._momentary = False
        self._sets = 0
        self._resets = 0
        self._last: dict[Direction, float] = {"set": 0.0, "reset": 0.0}
        self._parked: list[LatchWait] = []
        self._owner: object | None = None
        self._has_served = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'set' if self._is_set else 'reset'}>"

    def is_set(self) -> bool:
        """Whether the latch stands on its set side."""
        return self._is_set

    def set(self) -> None:
        """Set the latch and wake who waits for that; nothing changes if it is set."""
        self._turn("set")

    def reset(self) -> None:
        """Reset the latch and wake who waits for that; nothing changes if it is reset."""
        self._turn("reset")

    def trigger(self) -> None:
        """Set the latch until a wait has seen it; then it resets itself."""
        self._turn("set", momentary=True)

    def _turn(self, direction: Direction, *, momentary: bool = False) -> None:
        with self._lock:
            if self._is_set == (direction == "set"):
                self._momentary = self._momentary and momentary
                return
            woken = self._flip(direction, momentary)
        for each in woken:
            each.wake()

    def _flip(self, direction: Direction, momentary: bool) -> list[LatchWait]:
        """Change sides, under the lock; return who is to be woken after it."""
        self._is_set = direction == "set"
        self._momentary = momentary
        self._last[direction] = time.monotonic()
        if self._is_set:
            self._sets += 1
        else:
            self._resets += 1
        return [each for each in self._parked if each.direction == direction]

    # Waiting

    async def wait_for_set(self) -> None:
        """Wait until the latch is set, or was set meanwhile."""
        await self._wait("set")

    async def wait_for_reset(self) -> None:
        """Wait until the latch is reset, or was reset meanwhile."""
        await self._wait("reset")

    async def _wait(self, direction: Direction) -> None:
        mark = self.mark()
        if self.consume(direction, None) is None:
            await LatchWait({self: mark}, direction).wait(None)
            self.consume(direction, mark)

    def mark(self) -> Mark:
        """Return how often the latch has changed so far."""
        with self._lock:
            return Mark(self._sets, self._resets)

    def changed_since(self, direction: Direction, moment: float) -> bool:
        """Whether it last turned in this direction after a moment of the monotonic clock."""
        return self._last[direction] >= moment

    def consume(self, direction: Direction, since: Mark | None) -> Mark | None:
        """See whether the latch stands there, or was there since a mark.

        One that was triggered resets itself by being seen.

        Returns
        -------
        Mark or None
            From when to look again; None if it neither stands nor was there.
        """
        with self._lock:
            if not self._was(direction, since):
                return None
            mark = Mark(self._sets, self._resets)
            spent = direction == "set" and self._is_set and self._momentary
            # Under the same lock, or a trigger that comes in between would be reset unseen.
            woken = self._flip("reset", momentary=False) if spent else []
        for each in woken:
            each.wake()
        return mark

    def _was(self, direction: Direction, since: Mark | None) -> bool:
        now = Mark(self._sets, self._resets)
        passed = since is not None and now.count(direction) > since.count(direction)
        return passed or self._is_set == (direction == "set")

    def _park(self, wait: LatchWait) -> None:
        with self._lock:
            self._parked.append(wait)
            there = self._was(wait.direction, wait.latches[self])
        if there:
            wait.wake()

    def _leave(self, wait: LatchWait) -> None:
        with self._lock:
            if wait in self._parked:
                self._parked.remove(wait)

    # Plans

    def claim(self, owner: object, since: float) -> None:
        """Bind the latch to one run of a plan.

        Parameters
        ----------
        owner : object
            Stands for the run.
        since : float
            When the run began, on the monotonic clock. A latch that has served another run before
            and was set between the two starts reset.

        Raises
        ------
        RuntimeError
            If the run of another engine has it.
        """
        with self._lock:
            if self._owner is not None and self._owner is not owner:
                raise RuntimeError(
                    f"{self!r}: found it bound to {self._owner!r}, asked for by {owner!r}; expected"
                    " one plan at a time; give each engine actions of its own"
                )
            self._owner = owner
            stale = self._has_served and self._last["set"] < since
            self._has_served = True
        if stale:
            self.reset()

    def free(self, owner: object) -> None:
        """Undo `claim` and reset the latch, so that the next run does not start triggered."""
        with self._lock:
            if self._owner is not owner:
                return
            self._owner = None
        self.reset()
