"""What the devices of a server process share to keep records.

It is made by the first device that keeps records, and closed with the last.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from milonga.devices._record_settings import RecordSettings
from milonga.devices._record_upkeep import RecordUpkeep
from milonga.lrc import network
from milonga.monitoring import Check, Sample, process_monitor
from milonga.records import FileStore, RecordCommands, Recorder, RecordStore, WebhookOutbox
from milonga.webhooks import TargetPolicy, WebhookDeliverer

__all__ = ["NO_RECORDS", "STORE_VARIABLE", "RecordService", "acquire", "release", "store_address"]

_log = logging.getLogger(__name__)

STORE_VARIABLE = "MILONGA_RECORDS"
"""Environment variable with the path or URL of the record store, or ``none``."""

DATA_VARIABLE = "MILONGA_DATA"
DATA_FOLDER = "milonga-data"
STORE_FILE = "records.db"
FILES_FOLDER = "files"

CATCH_UP = 1.0
"""Seconds that a question waits for a slow store to have what came before it."""

NO_RECORDS = "none"
"""What to give as record store in order to keep no records."""


def store_address(chosen: str) -> str:
    """Return the path or URL of the store: what was chosen, or what the environment says.

    Parameters
    ----------
    chosen : str
        A device's property; empty if it leaves that to the environment.
    """
    named = chosen or os.environ.get(STORE_VARIABLE, "")
    if named:
        return named
    return str(_data_folder() / STORE_FILE)


def _data_folder() -> Path:
    return Path(os.environ.get(DATA_VARIABLE) or DATA_FOLDER)


class RecordService:
    """The store of a process, with what writes to it and tells of it.

    Parameters
    ----------
    address : str
        Path or URL of the store.
    owner : str
        Name of the device server, the same after each restart.

    Attributes
    ----------
    devices : set of str
        Names of the devices that keep records in it.

    Raises
    ------
    RecordsError
        If the store cannot be used with this release, or a setting is wrong.
    """

    def __init__(self, address: str, owner: str) -> None:
        self.settings = settings = RecordSettings.from_environment()
        if "://" not in address:
            with suppress(OSError):  # a folder that cannot be made is a store that does not answer
                Path(address).parent.mkdir(parents=True, exist_ok=True)
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each look at a store
        self.users = 0
        self.devices: set[str] = set()
        self.store = RecordStore(address, settings.of_store())
        self.recorder = Recorder(
            self.store, owner, settings.of_recorder(), call_later=network().call_later
        )
        targets = TargetPolicy(settings.webhook_hosts)
        folder = _data_folder() / FILES_FOLDER
        self.files = FileStore.local(self.store, folder)
        self.commands = RecordCommands(
            self.store,
            file_href=lambda file: self.files.get_task_file_url(file, external=False),
            check_webhook=targets.check,
        )
        self._deliverer = WebhookDeliverer(
            WebhookOutbox(self.store, owner=owner, signs=settings.webhook_secret is not None),
            secret=settings.webhook_secret,
            targets=targets,
        )
        self._stop_listening = self.store.listen_to_outbox(self._deliverer.wake)
        self._upkeep = RecordUpkeep(
            *(self.store, self.files, folder, settings.retention, owner),
            devices=lambda: tuple(self.devices),
        )
        process_monitor().add_source(self, self._samples)
        process_monitor().add_check(
            self, f"record store {self.where}", Check.READY, self._hindrance
        )
        self._upkeep.begin()

    @property
    def where(self) -> str:
        """The address of the store, without a password."""
        return self.store.url.render_as_string(hide_password=True)

    def catch_up(self) -> None:
        """Have what waits written, so that a question is answered with all that came before it.

        Whoever was told the id of a command may ask for its record at once.
        """
        if self.recorder.statistics().waiting and not self.recorder.is_away:
            self.recorder.flush(CATCH_UP)

    def close(self) -> None:
        """Write what waits, and end the threads."""
        self._upkeep.close()
        process_monitor().remove(self)
        if not self.recorder.close():
            _log.error("some records could not be written before the end")
        self._stop_listening()
        self._deliverer.close()
        self.store.close()

    def _hindrance(self) -> str:
        return "does not answer; records wait in memory" if self.recorder.is_away else ""

    def _samples(self) -> Iterator[Sample]:
        up = float(not self.recorder.is_away)
        yield Sample("milonga_record_store_up", "Whether the record store answers.", up)
        figures = asdict(self.recorder.statistics())
        yield Sample("milonga_records_waiting", "Records that wait.", figures.pop("waiting"))
        text = "Records that were written, and were not."
        for name, value in figures.items():
            yield Sample("milonga_records", text, value, (("what", name),), is_counter=True)
        yield Sample(
            "milonga_webhooks_dropped",
            "Messages to hooks that were dropped, as too many waited.",
            self.store.outbox_bound.dropped,
            is_counter=True,
        )


_lock = threading.Lock()
_services: dict[str, RecordService] = {}


def acquire(address: str, owner: str) -> RecordService:
    """Return the service of this process for a store, and open it if it is the first time.

    Raises
    ------
    RecordsError
        As `RecordService` does.
    """
    with _lock:
        service = _services.get(address)
        if service is None:
            service = _services[address] = RecordService(address, owner)
        service.users += 1
        return service


def release(service: RecordService) -> None:
    """Give a service back; the last to do so closes it."""
    with _lock:
        service.users -= 1
        if service.users > 0:
            return
        for address in [key for key, value in _services.items() if value is service]:
            del _services[address]
    service.close()
