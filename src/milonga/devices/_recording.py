"""A device that keeps records of its commands, and answers questions about them."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import tango
from tango.server import attribute, command, device_property

from milonga.devices._base import MilongaDevice
from milonga.devices._command_records import CommandRecord, CommandRecords, issuer_of
from milonga.devices._record_service import (
    NO_RECORDS,
    RecordService,
    acquire,
    release,
    store_address,
)
from milonga.devices._requests import Request
from milonga.devices._restart import Restart, ResumeAt
from milonga.devices._tracked import latin1
from milonga.errors import MilongaError, RecordsError
from milonga.lrc import Job
from milonga.tasks import BaseTask

__all__ = ["RecordingDevice"]


MAX_DIGITS = 18
"""Digits of a number that a database takes."""


class RecordingDevice(MilongaDevice):
    """A device whose commands are written down, and taken up again after a restart."""

    RecordStore = device_property(
        dtype=str,
        default_value="",
        doc="Path or URL of the record store, or none. Default: $MILONGA_RECORDS, or else"
        " records.db in $MILONGA_DATA.",
    )

    _taken_up: ClassVar[set[str]] = set()
    _service: RecordService | None = None
    _records: CommandRecords | None = None
    _restart: Restart | None = None

    def set_up(self) -> None:
        """Open the store of this process."""
        super().set_up()
        self._kept: set[str] = set()  # what the store has of the device, also from before a crash
        address = store_address(self.RecordStore)
        if address != NO_RECORDS:
            server = tango.Util.instance(False).get_ds_name()
            self._service = acquire(address, server)
            self._service.devices.add(self.get_name())
            self._records = CommandRecords(
                self._service.recorder,
                self.get_name(),
                self.scheduler.call_soon,
                self.scheduler.call_later,
                waits=self._service.settings.is_durable,
            )

    def delete_device(self) -> None:
        """Give every command a final state, and the store back."""
        restart, self._restart = self._restart, None
        if restart is not None and not restart.stop():
            self._taken_up.discard(self.get_name())  # the next self of the device goes on with it
        super().delete_device()
        service, self._service, self._records = self._service, None, None
        if service is not None:
            # After an orderly end a device starts anew, as SKA devices do; a crash is none.
            service.recorder.keep(self.get_name(), **dict.fromkeys(self._kept))
            with tango.AutoTangoAllowThreads(self):
                release(service)

    def recorded(
        self, job: Job, root: BaseTask | None = None, argument: str | None = None
    ) -> CommandRecord | None:
        """Have a command written down; None if this device keeps no records."""
        return None if self._records is None else self._records.follow(job, root, argument)

    def note_abort(self, uid: str | None = None) -> None:
        """Write down who wants a command to end, or all that an Abort ends."""
        by = self.issuer()
        if self._records is not None and by is not None:
            self._records.abort_asked(by, uid)

    def issuer(self) -> str | None:
        """Return who is calling, as far as that can be known."""
        return issuer_of(Request().origin(self._caller()))

    def keep(self, **values: Any) -> None:
        """Keep JSON values, which `take_back` gets after a crash."""
        if self._records is not None:
            self._kept.update(values)
            self._records.recorder.keep(self.get_name(), **values)

    def take_back(self, kept: Mapping[str, Any], *, goes_on: bool) -> None:
        """Take what was kept before a crash.

        Parameters
        ----------
        kept : mapping
            The values by name.
        goes_on : bool
            Whether there is a command that was under way and is taken up again.
        """

    def take_up_unfinished(self, resume_at: ResumeAt) -> None:
        """Find out what became of the commands that an earlier process had begun.

        Once in the life of this process: later, everything has been under its eyes.
        """
        name = self.get_name()
        service, records = self._service, self._records
        if service is None or records is None or name in self._taken_up:
            return
        self._taken_up.add(name)
        restart = Restart(
            *(records, self.commands, self.make_job, resume_at, self.take_back),
            self._kept.update,
        )
        self._restart = restart
        self.commands.hold()
        self.when_complete(lambda: restart.begin(service.store))

    @attribute(dtype=str)
    def recordStore(self) -> str:
        """Where records are kept; empty if there are none."""
        return self._service.where if self._service is not None else ""

    @attribute(dtype=bool)
    def recordStoreAway(self) -> bool:
        """Whether the store does not answer, so that records wait in memory."""
        return self._service is not None and self._service.recorder.is_away

    @command(dtype_in=str, dtype_out=str)
    def GetTask(self, task: str) -> str:
        """Return the record of a command or node, by its id, as a JSON object."""
        return self._ask("GetTask", lambda service: service.commands.get_task(_key(task)))

    @command(dtype_in=str, dtype_out=str)
    def GetTaskLog(self, wanted: str) -> str:
        """Return a page of a task's log; takes JSON with uid, and any of before and limit."""
        return self._ask("GetTaskLog", lambda service: service.commands.get_log(wanted))

    @command(dtype_in=str, dtype_out=str)
    def QueryTasks(self, wanted: str) -> str:
        """Return a page of records, newest first; takes a JSON object of filters."""
        return self._ask("QueryTasks", lambda service: service.commands.list_tasks(wanted))

    @command(dtype_in=str, dtype_out=str)
    def ExplainTask(self, task: str) -> str:
        """Return why a command failed, or what it waits for, as a JSON object."""
        return self._ask("ExplainTask", lambda service: service.commands.explain(_key(task)))

    @command(dtype_in=str, dtype_out=str)
    def SubscribeTask(self, wish: str) -> str:
        """Have a webhook called when a task changes: JSON with uid, webhookHref, and event."""
        return self._ask("SubscribeTask", lambda service: service.commands.subscribe(wish))

    @command(dtype_in=str, dtype_out=str)
    def UnsubscribeTask(self, wish: str) -> str:
        """End a subscription: JSON with uid, webhookHref, and event."""
        return self._ask("UnsubscribeTask", lambda service: service.commands.unsubscribe(wish))

    def _ask(self, name: str, question: Callable[[RecordService], str]) -> str:
        service = self._service
        try:
            if service is None:
                raise RecordsError(f"{name}: this device keeps no records")
            with tango.AutoTangoAllowThreads(self):  # a database may take its time
                service.catch_up()
                return latin1(question(service))
        except MilongaError as error:
            tango.Except.throw_exception(type(error).__name__, latin1(str(error)), name)
            raise  # not reached: throw_exception has raised


def _key(task: str) -> int | str:
    """Read the number of a task, or its unique name."""
    return int(task) if task.isdecimal() and len(task) <= MAX_DIGITS else task
