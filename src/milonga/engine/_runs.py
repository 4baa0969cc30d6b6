"""Which run a document belongs to."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

__all__ = ["RunIndex"]

REMEMBERED = 1000
"""For how many runs it is known how many of their documents were lost."""


class RunIndex:
    """Finds the runs of documents, and counts those of each that were lost. Safe across threads.

    Examples
    --------
    >>> index = RunIndex()
    >>> index.run_of("start", {"uid": "run"})
    'run'
    >>> index.run_of("descriptor", {"uid": "stream", "run_start": "run"})
    'run'
    >>> index.run_of("event", {"uid": "one", "descriptor": "stream"})
    'run'
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, str] = {}
        self._lost: OrderedDict[str, int] = OrderedDict()
        self.lost = 0

    def run_of(self, name: str, document: Mapping[str, Any]) -> str | None:
        """Return the run of a document, if it is known, and note what others refer to."""
        with self._lock:
            if name == "start":
                run: str | None = document["uid"]
            else:
                run = document.get("run_start") or self._runs.get(_parent(document))
            if run is not None and name in _REFERRED_TO:
                self._runs[document["uid"]] = run
            return run

    def forget(self, run: str) -> None:
        """Drop what was noted of a run that has ended."""
        with self._lock:
            self._runs = {uid: each for uid, each in self._runs.items() if each != run}

    def lose(self, run: str | None) -> int:
        """Count a document as lost; return how many of its run are."""
        with self._lock:
            self.lost += 1
            if run is None:
                return 0
            count = self._lost.pop(run, 0) + 1
            self._lost[run] = count
            if len(self._lost) > REMEMBERED:
                self._lost.popitem(last=False)
            return count

    def lost_of(self, run: str) -> int:
        """Return how many documents of a run were lost."""
        with self._lock:
            return self._lost.get(run, 0)

    def __len__(self) -> int:
        return len(self._runs)


_REFERRED_TO = frozenset({"start", "descriptor", "resource", "stream_resource"})
"""Events name their descriptor, data of files their resource: both lead to the run."""


def _parent(document: Mapping[str, Any]) -> str:
    for key in ("descriptor", "stream_resource", "resource"):
        if key in document:
            return str(document[key])
    return ""
