"""Where records are read: from their store, or from a device that has it open."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from milonga.errors import ArgumentError
from milonga.records import RecordCommands, RecordStore, StoreSettings

__all__ = ["MAX_NODES", "Source", "default_store", "open_source"]

MAX_NODES = 10_000
"""Nodes of one command that are read."""


class Source(Protocol):
    """Answers questions about records, as a device's commands do."""

    def list_tasks(self, payload: str = "{}") -> str:
        """Return a page of records: a JSON object with ``tasks`` and ``next``."""

    def get_task(self, task: str) -> str:
        """Return a record: a JSON object."""

    def get_log(self, payload: str) -> str:
        """Return a page of a task's log: a JSON object with ``entries`` and ``logCursor``."""

    def explain(self, task: str) -> str:
        """Return why a task failed: a JSON object."""


def default_store(environment: Mapping[str, str] = os.environ) -> str:
    """Return the path or URL of the store that devices started here would use.

    Examples
    --------
    >>> default_store({"MILONGA_DATA": "data"}), default_store({})
    ('data/records.db', 'milonga-data/records.db')
    """
    named = environment.get("MILONGA_RECORDS")
    if named and named != "none":
        return named
    return str(Path(environment.get("MILONGA_DATA") or "milonga-data") / "records.db")


@contextmanager
def open_source(
    store: str | None, trl: str | None, tango_host: str | None = None
) -> Iterator[Source]:
    """Open what is to be asked.

    Parameters
    ----------
    store : str or None
        Path or URL of a store; None for the usual one.
    trl : str or None
        A device to ask instead.
    tango_host : str or None
        ``host:port`` of the device's database; None for TANGO_HOST.

    Raises
    ------
    ArgumentError
        If both are given, or there is no such store.
    """
    if store is not None and trl is not None:
        raise ArgumentError("found both --store and --from, expected one of them")
    if trl is not None:
        from milonga.cli._history_device import DeviceSource  # noqa: PLC0415 - loads Tango

        yield DeviceSource(trl, tango_host)
        return
    where = store or default_store()
    if "://" not in where and not Path(where).is_file():
        raise ArgumentError(
            f"store: found no file {where}; expected one: give --store, or --from a device"
        )
    with RecordStore(where, StoreSettings(migrate=False)) as opened:
        yield RecordCommands(opened, file_href=lambda file: file.file_storage_data)
