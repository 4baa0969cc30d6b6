"""The task trees of a device's children, watched while their commands are awaited."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from milonga.errors import ProtocolError
from milonga.lrc import Sighting, Watch
from milonga.lrc.task_tree import find_command, read_document

__all__ = ["ATTRIBUTE", "ChildTrees"]

_log = logging.getLogger(__name__)

ATTRIBUTE = "taskTree"


WatchChild = Callable[[str, str, Callable[[Sighting], None]], Watch | None]
"""Watches an attribute of a child, by resource locator; None if there is no link to it."""


class ChildTrees:
    """What the children's ``taskTree`` attributes tell. Safe across threads.

    A text that comes is only kept, and read when somebody asks for a command of that child. A
    child without the attribute is watched in vain once, and again when its server was restarted.

    Parameters
    ----------
    watch : callable
        Watches an attribute of a child.
    changed : callable
        Called when a tree has come; from any thread, must be quick.
    start_of : callable, optional
        Returns since when a child's server runs; empty if that is not known.
    """

    def __init__(
        self,
        watch: WatchChild,
        changed: Callable[[], None],
        start_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._watch = watch
        self._changed = changed
        self._start_of = start_of
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._treeless: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._read: dict[str, tuple[str, dict[str, Any] | None]] = {}
        self._problems: dict[str, str] = {}

    def node(self, trl: str, command_id: str, awaited: bool) -> dict[str, Any] | None:
        """Return the node of a child's command, as far as it is known.

        Parameters
        ----------
        trl : str
            The child.
        command_id : str
            Its command.
        awaited : bool
            Whether it has not ended yet; then the child is watched from now on.
        """
        if awaited:
            self._begin(trl)
        text = self._texts.get(trl)
        if text is None:
            return None
        known = self._read.get(trl)
        if known is None or known[0] is not text:
            known = self._read[trl] = (text, self._document(trl, text))
        document = known[1]
        if document is None:
            return {"note": f"its task tree cannot be shown: {self._problems[trl]}"[:200]}
        return find_command(document, command_id)

    def release(self) -> None:
        """Watch no child any more. What is known stays, until the next command."""
        with self._lock:
            watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.close()

    def close(self) -> None:
        """Watch no child any more, and forget what is known."""
        self.release()
        self._treeless.clear()
        self._texts.clear()
        self._read.clear()

    @property
    def watched(self) -> int:
        """How many children are watched."""
        return len(self._watches)

    def _begin(self, trl: str) -> None:
        start = self._start_of(trl)
        with self._lock:
            if trl in self._watches or self._treeless.get(trl) == start:
                return
        watch = self._watch(trl, ATTRIBUTE, lambda sighting: self._saw(trl, sighting))
        if watch is None:
            return
        with self._lock:
            self._watches[trl] = watch

    def _saw(self, trl: str, sighting: Sighting) -> None:
        if isinstance(sighting.value, str):
            self._texts[trl] = sighting.value
            self._changed()
        elif sighting.connected and "no attribute" in sighting.reason:
            self._treeless[trl] = self._start_of(trl)

    def _document(self, trl: str, text: str) -> dict[str, Any] | None:
        try:
            return read_document(text)
        except ProtocolError as error:
            if self._problems.get(trl) != str(error):
                _log.warning("%s: %s", trl, error)
            self._problems[trl] = str(error)
            return None
