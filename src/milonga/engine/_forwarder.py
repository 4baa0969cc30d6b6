"""Delivers runs to where they are kept, in a thread of its own, for as long as that takes."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from milonga.engine._outbox import BrokenRun, Outbox

__all__ = ["DocumentSink", "Forwarder", "ForwarderStatistics"]

_logger = logging.getLogger("milonga.engine.documents")

LOOK_AGAIN = 30.0
"""Seconds after which an idle forwarder looks for runs of which nobody has told it."""

REFUSALS = 5
"""How often a sink that takes other runs may refuse a run before that is given up."""


class DocumentSink(Protocol):
    """Where runs are kept for good, such as a catalogue on a server. Used by one thread."""

    def deliver(self, uid: str, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Take a whole run; return when it is kept, or raise anything if it is not.

        It may be called for a run that the sink has already, in whole or in part, when the process
        died in between. So a sink finds out what it has, and then skips the run or begins anew.
        """

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class ForwarderStatistics:
    """How often the sink took a run, failed, and how often it began to fail."""

    delivered: int
    failed: int
    outages: int
    refused: int


class Forwarder:
    """Delivers what waits in an outbox, oldest run first.

    A run is delivered as a whole when it has ended, in the order of its documents. That is the one
    way in which each run arrives once even if this process is killed at any moment: sinks can say
    whether they have a run, but hardly which of its documents, so what is there in part has to be
    written anew. It also means that a run that goes on for ever is seen at the sink when it ends.

    A sink that fails is tried again, after waits that double; that is said once, when it begins,
    and once more when it is over. While it fails the runs take turns, so one that cannot be
    delivered at all does not stop the others; and if these go through, it is given up in the end.
    A run whose own file is broken is given up at once: that is not the sink's failure.
    (The waits are our own because `close` ends them; a retry that sleeps cannot be ended.)

    Its thread begins at once and is ended by `close`, for which whoever made the forwarder is
    responsible; it is a daemon, so that a sink that hangs does not keep the process from ending.

    Parameters
    ----------
    outbox : Outbox
        What is to be delivered.
    open_sink : callable
        Makes the sink, in the thread; called again for as long as it raises.
    name : str, optional
        Name of the thread.
    first_pause, longest_pause : float, optional
        Seconds to wait after the first failure, and at most.
    """

    def __init__(
        self,
        outbox: Outbox,
        open_sink: Callable[[], DocumentSink],
        *,
        name: str = "milonga sink",
        first_pause: float = 1.0,
        longest_pause: float = 30.0,
    ) -> None:
        self._outbox = outbox
        self._open_sink = open_sink
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._sink: DocumentSink | None = None
        self._ending = threading.Event()
        self._failing_since: float | None = None
        self._in_a_row = 0
        self._refusals: dict[str, tuple[int, int]] = {}
        self._delivered = self._failed = self._outages = self._refused = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def statistics(self) -> ForwarderStatistics:
        """Return what happened so far."""
        return ForwarderStatistics(self._delivered, self._failed, self._outages, self._refused)

    def close(self, timeout: float) -> bool:
        """End the thread, after the run that it is delivering; whether it took < `timeout` s.

        What has not been delivered by then waits for the next forwarder of the same outbox.
        """
        self._ending.set()
        self._outbox.ready.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # All below is the thread's

    def _run(self) -> None:
        while not self._outbox.claim():  # the one before may still be delivering a run
            if self._ending.wait(0.5):
                return
        try:
            while not self._ending.is_set():
                self._ending.wait(self._step())
        finally:
            self._outbox.release()
            if self._sink is not None:
                self._sink.close()

    def _step(self) -> float:
        """Deliver a run, or wait for one; return for how long to pause."""
        try:
            if self._sink is None:
                self._sink = self._open_sink()
        except Exception as error:  # noqa: BLE001 - whatever it is, only delivery waits for it
            return self._failure(error)
        try:
            return self._deliver_one()
        except OSError as error:  # of the outbox itself, such as a disk that has gone
            return self._failure(error)

    def _deliver_one(self) -> float:
        uid = self._outbox.take()
        if uid is None or self._sink is None:
            if not self._ending.is_set():  # asked after `take`, which forgets that `close` called
                self._outbox.ready.wait(LOOK_AGAIN)
            return 0.0
        broken: list[BrokenRun] = []  # noted here, as the sink may raise something else for it
        try:
            self._sink.deliver(uid, _noting(self._outbox.documents(uid), broken))
        except Exception as error:  # noqa: BLE001
            if not broken:
                self._note_refusal(uid, error)
                return self._failure(error)
        if broken:
            self._refusals.pop(uid, None)
            self._outbox.give_up(uid, f"its file is broken: {broken[0]}")
        else:
            self._success(uid)
        return 0.0

    def _success(self, uid: str) -> None:
        self._outbox.delivered(uid)
        self._delivered += 1
        self._refusals.pop(uid, None)
        if self._failing_since is not None:
            _logger.info(
                "documents are delivered again after %.0f s; %d wait",
                time.monotonic() - self._failing_since,
                self._outbox.waiting,
            )
            self._failing_since = None
            self._in_a_row = 0

    def _failure(self, error: Exception) -> float:
        self._failed += 1
        text = f"{type(error).__name__}: {error}"
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            self._outages += 1
            _logger.warning(
                "documents cannot be delivered: %s; %d wait, and it is tried again",
                text,
                self._outbox.waiting,
            )
        else:
            _logger.debug("documents still cannot be delivered: %s", text)
        pause: float = min(self._first_pause * 2.0**self._in_a_row, self._longest_pause)
        self._in_a_row = min(self._in_a_row + 1, 62)
        return pause

    def _note_refusal(self, uid: str, error: Exception) -> None:
        """Give up a run that keeps failing although others go through."""
        seen, refusals = self._refusals.get(uid, (self._delivered, 0))
        refusals += self._delivered > seen
        self._refusals[uid] = self._delivered, refusals
        if refusals >= REFUSALS:
            del self._refusals[uid]
            self._refused += 1
            self._outbox.give_up(uid, f"the sink refused it, last with {error}")


def _noting(
    documents: Iterator[tuple[str, dict[str, Any]]], broken: list[BrokenRun]
) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        yield from documents
    except BrokenRun as error:
        broken.append(error)
        raise
