"""Where the documents of runs go: one file for each run, or another thread."""

import json
import logging
import os
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Self

from milonga.engine._outbox import Outbox
from milonga.engine._runs import RunIndex
from milonga.engine._threads import Worker

__all__ = ["BridgeStatistics", "DocumentBridge", "JsonLinesWriter"]

_logger = logging.getLogger("milonga.engine.documents")
_BULK = frozenset({"event", "event_page", "datum", "datum_page", "stream_datum", "bulk_events"})
"""What there may be too much of; of the other kinds there are few, and these refer to them."""

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class JsonLinesWriter:
    """Writes the documents of each run to a file of its own, one JSON array a line.

    A line is ``["start", {...}]``. The file is ``<uid of the run>.jsonl``; it exists from the
    start document on, every line is complete, and it is closed by the stop document. What JSON has
    no number for is written as Python and bluesky's own writers do, such as NaN. To be subscribed
    to an engine; safe across threads.

    Parameters
    ----------
    directory : path
        Where the files go; made if need be.
    max_open : int, optional
        How many runs may be open; beyond that the oldest one's file is closed, and a document of
        it that comes later opens it again.
    outbox : Outbox, optional
        Told of every run, so that it can be delivered from its file.

    Attributes
    ----------
    runs : RunIndex
        Of which runs documents were lost, since they could not be written or belong to no run.

    Raises
    ------
    ValueError
        From the call, if the uid of a run is not fit to be the name of a file.
    OSError
        From the call, if a document cannot be written; those after it may be.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place, JsonLinesWriter(place) as writer:
    ...     writer("start", {"uid": "abc", "time": 0.0})
    ...     writer("stop", {"uid": "xyz", "run_start": "abc", "time": 1.0})
    ...     len(writer.path("abc").read_text().splitlines())
    2
    """

    def __init__(
        self, directory: str | Path, *, max_open: int = 64, outbox: Outbox | None = None
    ) -> None:
        self._outbox = outbox
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._max_open = max_open
        self._lock = threading.Lock()
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        self.runs = RunIndex()
        self.written = 0

    @property
    def lost(self) -> int:
        """How many documents are in no file."""
        return self.runs.lost

    def path(self, uid: str) -> Path:
        """Return where the documents of a run are."""
        if not _SAFE.fullmatch(uid):
            raise ValueError(f"uid: found {uid!r}, expected letters, digits, '-' and '_'")
        return self.directory / f"{uid}.jsonl"

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a document; one that belongs to no known run is counted as lost."""
        run = self.runs.run_of(name, document)
        size = 0
        try:
            line = json.dumps([name, document], default=_plain).encode() + b"\n"
            if self._outbox is not None and name == "start":
                self.path(document["uid"])  # raises for what is no name of a file
                self._outbox.begin(document["uid"])
            if run is None:
                self.runs.lose(None)
            else:
                self._write(run, line)
                size = len(line)
        except Exception:
            self.runs.lose(run)
            raise
        finally:
            if run is not None:
                self._wrote(run, size, last=name == "stop")

    def _write(self, run: str, line: bytes) -> None:
        with self._lock:
            _append(self._file(run), line)
            self.written += 1

    def _wrote(self, run: str, size: int, *, last: bool) -> None:
        """Do what follows a document, also one that could not be written: a run has one end."""
        if last:
            with self._lock:
                file = self._files.pop(run, None)
            self.runs.forget(run)
            if file is not None:
                file.close()
        if self._outbox is not None and (size or last):
            self._outbox.wrote(run, size, last=last)

    def _file(self, run: str) -> FileIO:
        if run not in self._files:
            self._files[run] = self.path(run).open("ab", buffering=0)
            if len(self._files) > self._max_open:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(run)
        return self._files[run]

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


def _append(file: FileIO, line: bytes) -> None:
    """Add a line in whole, or nothing of it."""
    end = file.seek(0, os.SEEK_END)
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with suppress(OSError):
            file.truncate(end)
        raise


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
        Gets the name and the document. One that raises is logged, once until it works again.
    capacity : int, optional
        How many documents may wait; of what comes beyond that, events and the like are dropped.
    name : str, optional
        Name of the thread.
    surroundings : callable, optional
        Makes a context manager that the thread lives in.
    dropped : callable, optional
        Gets the name and the document of what is dropped, from the thread that has given it.

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
        dropped: Callable[[str, Mapping[str, Any]], object] = lambda _name, _document: None,
    ) -> None:
        self._callback = callback
        self._tell_dropped = dropped
        self._is_failing = False
        self._capacity = capacity
        self._worker = Worker(name, surroundings=surroundings)
        self._passed = self._dropped = self._failed = 0

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document; returns at once."""
        if self._worker.depth >= self._capacity and name in _BULK:
            self._dropped += 1
            self._tell_dropped(name, document)
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
            text = "the callback for a %s document failed, and gets those that follow"
            if not self._is_failing:
                _logger.exception(text, name)
            self._is_failing = True
        else:
            self._passed += 1
            self._is_failing = False

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
