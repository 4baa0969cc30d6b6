"""Where the documents of a device's plans go: to files, and from there to a sink, if any."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from milonga.engine import DocumentBridge, Forwarder, JsonLinesWriter, Outbox, tiled_sink
from milonga.errors import CommandMapError

__all__ = ["PlanDocuments"]

DOCUMENTS_WAITING = 100_000
"""How many documents may wait for the disk before some are dropped."""

MEGABYTE = 1_000_000


class PlanDocuments:
    """Takes documents without keeping the caller waiting. Safe across threads.

    It owns two threads, which `close` ends: one writes the files; the other, if there is a sink,
    delivers from them.

    Parameters
    ----------
    name : str
        The device's name.
    folder : Path
        Where the files go.
    sink : str
        URL of a Tiled server; empty for none.
    limit : float
        MB that may wait for it.

    Raises
    ------
    CommandMapError
        If the folder cannot be used, or there can be no such sink.
    """

    def __init__(self, name: str, folder: Path, sink: str, limit: float) -> None:
        self.folder = folder.absolute()
        self._name = name
        self._changed: Callable[[], object] = lambda: None
        self._outbox: Outbox | None = None
        self._forwarder: Forwarder | None = None
        try:
            self._open_sink = tiled_sink(sink.strip()) if sink.strip() else None
        except (ValueError, ModuleNotFoundError) as error:
            raise CommandMapError(f"Property DocumentSink: {error}") from error
        if self._open_sink is not None and not limit > 0:
            raise CommandMapError(f"Property DocumentSinkLimit: found {limit}; expected MB > 0")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._open_sink is not None:
                self._outbox = Outbox(
                    self.folder,
                    name,
                    limit=int(limit * MEGABYTE),
                    changed=self._tell,
                )
            self._writer = JsonLinesWriter(self.folder, outbox=self._outbox)
        except OSError as error:
            raise CommandMapError(
                f"Property DataFolder: found {str(folder)!r}, which cannot be made:"
                f" {error.strerror}"
            ) from error
        self._bridge = DocumentBridge(
            self._write,
            capacity=DOCUMENTS_WAITING,
            name=f"milonga documents {name}",
            dropped=self._drop,
        )

    def start(self, changed: Callable[[], object]) -> None:
        """Begin to deliver; `changed` is called when another number of documents waits."""
        self._changed = changed
        if self._outbox is not None and self._open_sink is not None:
            self._forwarder = Forwarder(
                self._outbox, self._open_sink, name=f"milonga sink {self._name}"
            )

    def _tell(self) -> None:
        self._changed()

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document; returns at once."""
        self._writer.runs.run_of(name, document)  # known before any that belongs to it is dropped
        self._bridge(name, document)

    def _drop(self, name: str, document: Mapping[str, Any]) -> None:
        self._writer.runs.lose(self._writer.runs.run_of(name, document))
        self._changed()

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        try:
            self._writer(name, document)
        except Exception:
            self._changed()
            raise

    def after(self, function: Callable[[], object]) -> None:
        """Call `function` once all documents so far are on disk."""
        self._bridge.after(function)

    @property
    def waiting(self) -> int:
        """How many documents the sink has not got yet."""
        return self._outbox.waiting if self._outbox is not None else 0

    @property
    def lost(self) -> int:
        """How many documents could not be written since the start."""
        return self._writer.lost

    def lost_of(self, runs: Iterable[str]) -> int:
        """Return how many documents of some runs could not be written."""
        return sum(map(self._writer.runs.lost_of, runs))

    def close(self, timeout: float) -> None:
        """Finish what is being written; what waits for the sink is delivered after the next start.

        A delivery that takes longer than `timeout` s goes on, and ends with the process.
        """
        self._bridge.close(timeout)
        self._writer.close()
        if self._forwarder is not None:
            self._forwarder.close(timeout)
