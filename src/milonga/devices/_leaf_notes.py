"""What is remarkable of the leaves of one command, for its record.

That is what was wrong with the events of a leaf, what its target answered to an abort, and when
nothing was heard of it. Some of it comes after the leaf has ended, so it is looked at once more.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from milonga.tasks import BaseTask, LeafTask

__all__ = ["AFTERMATH", "LeafNotes"]

AFTERMATH = 5.0
"""Seconds after a command's end when its leaves are looked at once more, and for the last time."""

STALLS_KEPT = 16
"""How many silences of one leaf are kept with their times."""


class LeafNotes:
    """What is remarkable of leaves, and what of that was told before. Safe across threads.

    One leaf is asked about by one thread at a time.
    """

    def __init__(self) -> None:
        self._stalls: dict[LeafTask, list[dict[str, str]]] = {}
        self._told: dict[LeafTask, dict[str, Any]] = {}

    def stalled(self, leaf: LeafTask, stalled: bool) -> dict[str, Any]:
        """Take note that a leaf is silent, or is heard of again; return all that is to be told."""
        stalls = self._stalls.setdefault(leaf, [])
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if stalled and len(stalls) < STALLS_KEPT:
            stalls.append({"since": now})
        elif not stalled and stalls:
            stalls[-1].setdefault("until", now)
        return self.of(leaf)

    def of(self, leaf: LeafTask) -> dict[str, Any]:
        """Return what is remarkable of a leaf; empty if nothing is."""
        notes = leaf.remarks()
        notes.pop("stalled", None)  # which is true only for now
        if self._stalls.get(leaf):
            notes["stalls"] = [dict(stall) for stall in self._stalls[leaf]]
        self._told[leaf] = notes
        return notes

    def late(self, root: BaseTask) -> Iterator[tuple[LeafTask, dict[str, Any]]]:
        """Yield the leaves of which there is more than was told, with all of it."""
        for leaf in root.leaves():
            before = self._told.get(leaf, {})
            now = self.of(leaf)
            if now != before:
                yield leaf, now
