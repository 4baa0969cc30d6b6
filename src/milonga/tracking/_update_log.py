"""What became of updates: counted, and noted for the log."""

import logging

from milonga.tracking._ledger import Entry, Ledger, SubtaskKey
from milonga.tracking._report import Report

__all__ = ["Note", "UpdateLog"]

Note = tuple[int, str, tuple[object, ...]]  # level, text, and its arguments after the task's name


class UpdateLog:
    """Counters of updates, and the notes that a person should read, some of them only once.

    Nothing is logged here: the tracker's lock is held. Texts begin with the task's name.
    """

    __slots__ = ("_warned", "duplicate", "ignored", "late", "unknown", "updates")

    def __init__(self) -> None:
        self.updates = 0
        self.late = 0
        self.duplicate = 0
        self.ignored = 0
        self.unknown = 0
        self._warned: set[str] = set()

    def count(
        self, entry: Entry, key: SubtaskKey, report: Report, ledger: Ledger, notes: list[Note]
    ) -> None:
        """Count an update of a task that is not over."""
        if entry is Entry.TAKEN:
            self.updates += 1
            if ledger.seen > ledger.total:
                self._warn_once("%s: more subtasks than the %s declared", notes, ledger.total)
            if type(key) is tuple:
                self._warn_once("%s: several devices under the name %s", notes, report.name)
        elif entry is Entry.DUPLICATE:
            self.duplicate += 1
            notes.append((logging.DEBUG, "%s: %s is over, update ignored", (key,)))
        elif entry is Entry.IGNORED:
            self.ignored += 1
        else:
            self.unknown += 1
            self._warn_once("%s: too many undeclared subtasks", notes)
        if report.problems:
            origin = (report.name, ", ".join(report.problems), report.source)
            notes.append((logging.WARNING, "%s: %s: cannot use %s (source %s)", origin))

    def count_late(self, report: Report, ledger: Ledger, notes: list[Note]) -> None:
        """Count an update of a task that is over."""
        self.late += 1
        if ledger.is_compacted or ledger.key_of(report) in ledger.subtasks:
            notes.append((logging.DEBUG, "%s: is over, update of %s ignored", (report.name,)))
        else:
            self.unknown += 1
            self._warn_once("%s: is over, new subtask %s ignored", notes, report.name)

    def _warn_once(self, text: str, notes: list[Note], *args: object) -> None:
        if text not in self._warned:
            self._warned.add(text)
            notes.append((logging.WARNING, text, args))
