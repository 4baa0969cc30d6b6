"""What has to be done to records now and then: let old ones go, and end what nobody will end."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from milonga.lrc import network
from milonga.records import (
    FileStore,
    RecordStore,
    Retention,
    claim_round,
    close_abandoned,
    close_lost,
    retain,
)

__all__ = ["RecordUpkeep"]

_log = logging.getLogger(__name__)

EVERY, FIRST = 3600.0, 1.0
"""Seconds between two rounds, and before the first."""

SETTLED = 600.0
"""Seconds after its start when a server has all its devices, and they what was theirs."""

GONE = 86_400.0
"""Seconds without a heartbeat after which a server is taken for gone, and its commands for lost."""

SWEPT_AFTER = 7 * 86_400.0
"""Seconds for which a folder of files must have belonged to one store before it is swept."""

USERS_FILE = ".stores"
"""Names the stores whose files are in a folder, one a line."""


class RecordUpkeep:
    """Looks after a store and its files every hour.

    Parameters
    ----------
    store : RecordStore
        The store.
    files : FileStore
        Its files.
    folder : Path
        Where the local ones are.
    retention : Retention
        How much is kept.
    owner : str
        Name of this server.
    devices : callable
        Returns the names of the devices of this server that keep records.
    """

    def __init__(
        self,
        store: RecordStore,
        files: FileStore,
        folder: Path,
        retention: Retention,
        owner: str,
        devices: Callable[[], Iterable[str]],
    ) -> None:
        self._store = store
        self._files = files
        self._folder = folder
        self._retention = retention
        self._owner = owner
        self._devices = devices
        self._began = time.monotonic()
        self._began_at = store.clock()
        self._closed = False

    def begin(self) -> None:
        """Do the first round soon, and the others after it."""
        self._later(FIRST)

    def close(self) -> None:
        """Begin no more rounds."""
        self._closed = True

    def _later(self, delay: float) -> None:
        network().call_later(delay, self._soon)

    def _soon(self) -> None:
        if not self._closed:
            network().run(self._round, in_background=True)

    def _round(self) -> None:
        try:
            self.look_after(settled=time.monotonic() - self._began > SETTLED)
        except Exception as error:  # noqa: BLE001 - whatever a database or a disk may raise
            _log.warning("the record store could not be looked after: %s", error)
        if not self._closed:
            self._later(EVERY)

    def look_after(self, *, settled: bool) -> None:
        """Do what is to be done now.

        Parameters
        ----------
        settled : bool
            Whether the devices of this server have taken up what was theirs.
        """
        if settled:
            close_abandoned(self._store, self._owner, self._devices(), self._began_at)
        # What is about the whole store one of its servers does for all.
        if claim_round(self._store, EVERY * 0.9):
            if settled:
                close_lost(self._store, GONE)
            gone = retain(self._store, self._retention, self._files.delete)
            if gone:
                _log.info("%d old records of commands were dropped", gone)
            self._files.remove_temp_files()
        self._sweep()

    def _sweep(self) -> None:
        """Delete files of which no row knows, if the folder is certainly this store's alone."""
        users = self._folder / USERS_FILE
        name = self._store.url.render_as_string(hide_password=True)
        known = users.read_text().splitlines() if users.exists() else []
        if name not in known:
            if not self._folder.is_dir():
                return
            with users.open("a") as file:
                file.write(f"{name}\n")
            return
        if len(known) == 1 and time.time() - users.stat().st_mtime > SWEPT_AFTER:
            with suppress(OSError):
                self._files.sweep()
