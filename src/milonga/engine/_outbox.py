"""The runs that wait to be delivered, on disk: the files of documents, and a mark for each run.

The files that `JsonLinesWriter` writes are the outbox: nothing is stored twice. What is remembered
beside them is only which of them have not been delivered, as an empty file for each such run, in
``outbox/<name>`` of the same folder, with the name as in a URL. A mark is made before the first
document is written and removed when the sink has the whole run, so the death of the process at any
moment leaves a mark too many at worst, never one too few; a sink has to know the runs that it has,
see `DocumentSink`.

All of this outlives the death of the process. It is not forced to the disk with each document, so
after a loss of power the last seconds may be missing, in the files as in the outbox.
"""

import contextlib
import fcntl
import json
import logging
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

__all__ = ["DEFAULT_LIMIT", "BrokenRun", "Outbox", "OutboxStatistics"]

_logger = logging.getLogger("milonga.engine.documents")

DEFAULT_LIMIT = 1_000_000_000
"""Bytes of documents that may wait."""

MARK = ".waiting"

GIVEN_UP = "given-up"

ABANDONED = "the process that ran the plan ended before the run did, or could not write its end"

_BEGINNING = b'["start"'

_alive: set[Path] = set()
"""Marks of the runs that this process is still writing: an outbox may be opened anew meanwhile."""


class BrokenRun(ValueError):
    """The file of a run has a line that cannot be delivered, however often it is tried."""


@dataclass
class _Waiting:
    documents: int = 0
    size: int = 0
    tries: int = 0


@dataclass(frozen=True)
class OutboxStatistics:
    """What waits and what became of the rest, since the outbox was opened; sizes in bytes."""

    runs: int
    documents: int
    size: int
    delivered: int
    given_up: int


class Outbox:
    """Remembers which runs have not been delivered. Safe across threads.

    There is a bound to what waits. Beyond it the oldest runs are given up: they are not delivered,
    and that is an alarm; but their files stay, as a full outbox is no reason to destroy data. Their
    marks are moved to ``given-up``; one that is moved back is delivered after the next start.

    Parameters
    ----------
    folder : path
        Where the files of documents are.
    name : str
        Name of the outbox: several devices, of several processes, may share a folder.
    limit : int, optional
        Bytes of documents that may wait, the newest run not counted.
    changed : callable, optional
        Called when a run has ended, was delivered or was given up; from any thread.

    Examples
    --------
    >>> import tempfile
    >>> from milonga.engine import JsonLinesWriter
    >>> with tempfile.TemporaryDirectory() as place:
    ...     outbox = Outbox(Path(place), "lab/subarray/1")
    ...     with JsonLinesWriter(place, outbox=outbox) as writer:
    ...         writer("start", {"uid": "abc", "time": 0.0})
    ...         writer("stop", {"uid": "xyz", "run_start": "abc", "time": 1.0})
    ...     uid = outbox.take()
    ...     [name for name, document in outbox.documents(uid)]
    ['start', 'stop']
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        limit: int = DEFAULT_LIMIT,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._folder = folder
        self.place = folder / "outbox" / quote(name.lower(), safe="")
        self._given_up_place = self.place / GIVEN_UP
        self._given_up_place.mkdir(parents=True, exist_ok=True)
        _take_over(folder / "outbox" / re.sub(r"[^a-z0-9_.-]", "-", name.lower()), self.place)
        self._limit = limit
        self._changed = changed
        self._lock = threading.Lock()
        self._runs: dict[str, _Waiting] = {}  # oldest first
        self._taken = ""
        self._delivered = self._given_up = 0
        self._claim: BinaryIO | None = None
        self.ready = threading.Event()
        self._load()

    def _load(self) -> None:
        """Find what earlier processes have left."""
        marks = [mark for mark in self.place.iterdir() if mark.suffix == MARK]
        for mark in sorted(marks, key=_age):
            self._runs[mark.stem] = _measure(self._file(mark.stem))
        self._keep_to_limit()

    # For the writer of the files

    def begin(self, uid: str) -> None:
        """Note that a run begins; to be called before its first document is written."""
        mark = self._mark(uid)
        _alive.add(mark)  # first, as an outbox that is opened now must not take it for a left one
        try:
            mark.touch()
        except OSError:
            _alive.discard(mark)
            _logger.exception("run %s cannot be marked: it will not be delivered", uid)
            return
        with self._lock:
            self._runs[uid] = _Waiting()

    def wrote(self, uid: str, size: int, *, last: bool) -> None:
        """Note that a document of `size` bytes is in the file, and whether it is the last one.

        The last one has size 0 if it could not be written; a run is delivered without it as well.
        """
        with self._lock:
            waiting = self._runs.get(uid)
            if waiting is None:
                return
            waiting.documents += bool(size)
            waiting.size += size
            if last:
                _alive.discard(self._mark(uid))
        if last:
            self._keep_to_limit()
            self.ready.set()
            self._changed()

    # For the forwarder

    def claim(self) -> bool:
        """Become the only one to deliver from here; whether nobody else does."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context((self.place / ".lock").open("wb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            stack.pop_all()
        self._claim = file
        return True

    def release(self) -> None:
        """Let others deliver."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def take(self) -> str | None:
        """Return the run to deliver next, if there is one: the least tried, of these the oldest."""
        while uid := self._choose():
            if not self._mark(uid).exists():
                self._forget(uid)  # delivered by the forwarder before, after this one was opened
            elif _begins_well(self._file(uid)):
                return uid
            else:
                # the process died between mark and file, the disk was full, or somebody has
                # deleted the file
                self.give_up(uid, "its start document is in no file")
        return None

    def _choose(self) -> str:
        with self._lock:
            self.ready.clear()
            ended = [uid for uid in self._runs if self._mark(uid) not in _alive]
            self._taken = min(ended, key=lambda uid: self._runs[uid].tries, default="")
            if self._taken:
                self._runs[self._taken].tries += 1
            return self._taken

    def documents(self, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the documents of a run that has ended.

        A run whose process has died has no stop document. It gets one, in the file as well, since
        it would look for ever as if it still went on.

        Raises
        ------
        BrokenRun
            If a line is no document, or an event has no descriptor: such as of a run of which a
            document could not be written.
        """
        with self._file(uid).open("r+b") as file:
            yield from _documents(file)

    def delivered(self, uid: str) -> None:
        """Forget a run that the sink has."""
        self._mark(uid).unlink(missing_ok=True)
        self._delivered += self._forget(uid)
        self._changed()

    def _forget(self, uid: str) -> bool:
        with self._lock:
            self._taken = ""
            return self._runs.pop(uid, None) is not None

    def give_up(self, uid: str, reason: str) -> None:
        """Never deliver a run; its file stays."""
        with self._lock:
            self._give_up(uid)
        _logger.warning("run %s is not delivered: %s; its file is %s", uid, reason, self._file(uid))
        self._changed()

    def statistics(self) -> OutboxStatistics:
        """Return what waits now, and what became of the rest."""
        with self._lock:
            waiting = list(self._runs.values())
            return OutboxStatistics(
                len(waiting),
                sum(each.documents for each in waiting),
                sum(each.size for each in waiting),
                self._delivered,
                self._given_up,
            )

    @property
    def waiting(self) -> int:
        """How many documents have not been delivered yet."""
        return self.statistics().documents

    # What is behind

    def _mark(self, uid: str) -> Path:
        return self.place / f"{uid}{MARK}"

    def _file(self, uid: str) -> Path:
        return self._folder / f"{uid}.jsonl"

    def _keep_to_limit(self) -> None:
        dropped = []
        with self._lock:
            ended = [uid for uid in self._runs if self._mark(uid) not in _alive]
            total = sum(each.size for each in self._runs.values())
            for uid in ended[:-1]:  # the newest one must not be lost to a limit that is too low
                if total <= self._limit:
                    break
                if uid != self._taken:
                    total -= self._runs[uid].size
                    self._give_up(uid)
                    dropped.append(uid)
        for uid in dropped:
            _logger.warning(
                "the outbox %s is full (%d bytes): run %s is not delivered, as the oldest; its"
                " documents are in %s",
                self.place.name,
                self._limit,
                uid,
                self._file(uid),
            )

    def _give_up(self, uid: str) -> None:
        self._runs.pop(uid, None)
        self._given_up += 1
        mark = self._mark(uid)
        try:
            mark.replace(self._given_up_place / mark.name)
        except OSError:  # such as a full disk: it is tried again after the next start
            _logger.exception("the mark of run %s cannot be moved", uid)


def _take_over(before: Path, place: Path) -> None:
    """Move the marks from where earlier versions had them, in a folder that devices might share."""
    if before == place or not before.is_dir():
        return
    for part in ("", GIVEN_UP):
        for mark in (before / part).glob(f"*{MARK}"):
            with contextlib.suppress(OSError):  # another device was first
                mark.replace(place / part / mark.name)
    with contextlib.suppress(OSError):
        (before / ".lock").unlink(missing_ok=True)
        (before / GIVEN_UP).rmdir()
        before.rmdir()


def _age(mark: Path) -> int:
    try:
        return mark.stat().st_mtime_ns
    except FileNotFoundError:  # just delivered, by the forwarder before
        return 0


def _begins_well(file: Path) -> bool:
    try:
        with file.open("rb") as lines:
            return lines.read(len(_BEGINNING)) == _BEGINNING
    except FileNotFoundError:
        return False


def _measure(file: Path) -> _Waiting:
    waiting = _Waiting()
    with contextlib.suppress(OSError), file.open("rb") as lines:
        for line in lines:
            waiting.documents += 1
            waiting.size += len(line)
    return waiting


def _documents(file: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    start: Mapping[str, Any] = {}
    streams: dict[str, str] = {}
    events: Counter[str] = Counter()
    end, name = 0, ""
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break  # the process died in mid-line
        end += len(line)
        try:
            name, document = json.loads(line)
            if name == "start":
                start = document
            elif name == "descriptor":
                streams[document["uid"]] = document["name"]
                events[document["name"]] += 0
            elif name == "event":
                events[streams[document["descriptor"]]] += 1
            elif name == "event_page":
                events[streams[document["descriptor"]]] += len(document["seq_num"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            text = f"line {number} is {line[:80]!r}, which is no document, or lacks its descriptor"
            raise BrokenRun(text) from error
        yield name, document
    if start and name != "stop":
        stop = {
            "uid": str(uuid.uuid4()),
            "run_start": start["uid"],
            "time": time.time(),
            "exit_status": "fail",
            "reason": ABANDONED,
            "num_events": dict(events),
        }
        file.seek(end)
        file.truncate()
        file.write(json.dumps(["stop", stop]).encode() + b"\n")
        file.flush()
        yield "stop", stop
