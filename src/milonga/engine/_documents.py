"""Where the documents of runs go: one file for each run, or another thread."""

import json
import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from milonga.engine._threads import Worker

__all__ = ["BridgeStatistics", "DocumentBridge", "JsonLinesWriter"]

_logger = logging.getLogger("milonga.engine.documents")
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class JsonLinesWriter:
    """Writes the documents of each run to a file of its own, one JSON array a line.

    A line is ``["start", {...}]``. The file is ``<uid of the run>.jsonl``; it exists from the
    start document on, every line is complete when the next document comes, and it is closed by
    the stop document. To be subscribed to an engine; safe across threads.

    Parameters
    ----------
    directory : path
        Where the files go; made if need be.
    max_open : int, optional
        How many runs may be open; beyond that the oldest one's file is closed, and a document of
        it that comes later opens it again.

    Raises
    ------
    ValueError
        From the call, if the uid of a run is not fit to be the name of a file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place, JsonLinesWriter(place) as writer:
    ...     writer("start", {"uid": "abc", "time": 0.0})
    ...     writer("stop", {"uid": "xyz", "run_start": "abc", "time": 1.0})
    ...     len(writer.path("abc").read_text().splitlines())
    2
    """

    def __init__(self, directory: str | Path, *, max_open: int = 64) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._max_open = max_open
        self._lock = threading.Lock()
        self._files: OrderedDict[str, TextIO] = OrderedDict()
        self._runs: dict[str, str] = {}
        self.written = 0
        self.lost = 0

    def path(self, uid: str) -> Path:
        """Return where the documents of a run are."""
        if not _SAFE.fullmatch(uid):
            raise ValueError(f"uid: found {uid!r}, expected letters, digits, '-' and '_'")
        return self.directory / f"{uid}.jsonl"

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a document; one that belongs to no known run is counted as lost."""
        with self._lock:
            run = self._run_of(name, document)
            if run is None:
                self.lost += 1
                return
            file = self._file(run)
            file.write(json.dumps([name, document], default=_plain) + "\n")
            file.flush()
            self.written += 1
            if name == "stop":
                self._forget(run)

    def _run_of(self, name: str, document: Mapping[str, Any]) -> str | None:
        if name == "start":
            run: str | None = document["uid"]
        else:
            run = document.get("run_start") or self._runs.get(self._parent(document))
        if run is not None and "uid" in document:
            # Events name their descriptor, data of files their resource: both lead to the run.
            self._runs[document["uid"]] = run
        return run

    def _parent(self, document: Mapping[str, Any]) -> str:
        for key in ("descriptor", "stream_resource", "resource"):
            if key in document:
                return str(document[key])
        return ""

    def _file(self, run: str) -> TextIO:
        if run not in self._files:
            self._files[run] = self.path(run).open("a", encoding="utf-8")
            if len(self._files) > self._max_open:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(run)
        return self._files[run]

    def _forget(self, run: str) -> None:
        self._files.pop(run).close()
        self._runs = {uid: each for uid, each in self._runs.items() if each != run}

    def close(self) -> None:
        """Close all files; idempotent."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _plain(value: object) -> object:
    """Return something that JSON has for what it has not, such as an array."""
    for name in ("tolist", "isoformat"):
        convert = getattr(value, name, None)
        if callable(convert):
            converted: object = convert()
            return converted
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple | deque):
        return list(value)
    return str(value)


@dataclass(frozen=True)
class BridgeStatistics:
    """What a bridge has passed on, holds, and had to drop."""

    passed: int
    waiting: int
    dropped: int
    failed: int


class DocumentBridge:
    """Passes documents on to a callback in a thread of its own.

    The event loop then never waits for the callback, and the thread can be one that may talk to
    Tango: with ``surroundings=tango.EnsureOmniThread`` the callback may push events. To be
    subscribed to an engine; safe across threads.

    Parameters
    ----------
    callback : callable
        Gets the name and the document. One that raises is logged.
    capacity : int, optional
        How many documents may wait; what comes beyond that is dropped, except start and stop.
    name : str, optional
        Name of the thread.
    surroundings : callable, optional
        Makes a context manager that the thread lives in.

    Examples
    --------
    >>> seen = []
    >>> with DocumentBridge(lambda name, document: seen.append(name)) as bridge:
    ...     bridge("start", {})
    >>> seen
    ['start']
    """

    def __init__(
        self,
        callback: Callable[[str, Mapping[str, Any]], object],
        *,
        capacity: int = 10_000,
        name: str = "milonga-documents",
        surroundings: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._callback = callback
        self._capacity = capacity
        self._worker = Worker(name, surroundings=surroundings)
        self._passed = self._dropped = self._failed = 0

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document; returns at once."""
        if self._worker.depth >= self._capacity and name not in {"start", "stop"}:
            self._dropped += 1
            return
        self._worker.post(self._pass_on, name, document)

    def after(self, function: Callable[[], object]) -> None:
        """Call `function` in the thread, once all documents so far have been passed on."""
        self._worker.post(function)

    def _pass_on(self, name: str, document: Mapping[str, Any]) -> None:
        try:
            self._callback(name, document)
        except Exception:
            self._failed += 1
            _logger.exception("the callback for a %s document failed", name)
        else:
            self._passed += 1

    def statistics(self) -> BridgeStatistics:
        """Return what the bridge did so far."""
        return BridgeStatistics(self._passed, self._worker.depth, self._dropped, self._failed)

    def close(self, timeout: float = 5.0) -> bool:
        """Pass on what waits and end the thread; whether that took less than `timeout` s."""
        return self._worker.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
