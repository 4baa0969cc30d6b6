"""Results of analyses that are files: where they go, and plots on disk."""

import hashlib
from pathlib import Path
from typing import Any

from sqlalchemy import select

from milonga.errors import RecordNotFound
from milonga.records._analysis import ElogSummaryPlots
from milonga.records._figures import suffix_of
from milonga.records._file_model import TaskFile
from milonga.records._file_names import safe_name, write_new
from milonga.records._files import FileStore
from milonga.records._lifecycle import TaskKey
from milonga.records._store import RecordStore

__all__ = ["TaskAttachments", "plots_in", "write_plots"]


class TaskAttachments:
    """Keeps the large parts of a result as files of its task, the same bytes once.

    Parameters
    ----------
    store : RecordStore
        Where the rows are.
    files : FileStore
        Where the bytes are.
    task : int or str
        Number or unique name of the task.
    """

    def __init__(self, store: RecordStore, files: FileStore, task: TaskKey) -> None:
        self._store = store
        self._files = files
        self._task = task
        self._kept: dict[tuple[str, str], str] = {}

    def put(self, name: str, data: bytes, mimetype: str) -> str:
        """Keep bytes, and return by what they are found: the number of the file."""
        key = (name, hashlib.sha256(data).hexdigest())
        if key not in self._kept:
            file = self._files.persist_task_result(self._task, data, name, "analysis", mimetype)
            self._kept[key] = str(file.id)
        return self._kept[key]

    def get(self, reference: str) -> bytes:
        """Return bytes that were kept.

        Raises
        ------
        RecordNotFound
            If there is no such file, or its bytes are not those that were kept.
        """
        with self._store.reading() as session:
            file = session.scalar(select(TaskFile).where(TaskFile.id == int(reference)))
        if file is None:
            raise RecordNotFound(f"file: found no record of {reference!r}")
        with self._files.open(file) as opened:
            data = opened.read()
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise RecordNotFound(f"file {reference}: its content has changed since it was stored")
        return data


def plots_in(summary: Any) -> list[ElogSummaryPlots]:
    """Return the plots in a summary, however it is made."""
    if isinstance(summary, ElogSummaryPlots):
        return [summary]
    if isinstance(summary, list | tuple):
        return [plots for item in summary for plots in plots_in(item)]
    return []


def write_plots(plots: ElogSummaryPlots, folder: Path) -> list[Path]:
    """Write plots below a folder, under their display name, and return their paths (LX-09).

    Parameters
    ----------
    plots : ElogSummaryPlots
        The plots.
    folder : Path
        Where summaries are shown from.
    """
    target = folder / safe_name(plots.display_name)
    written = []
    for number, page in enumerate(plots.pages):
        name = f"report{f'-{number}' if number else ''}{suffix_of(page)}"
        written.append(write_new(target / name, page).path)
    return written
