"""A simulated leaf that goes wrong in the ways that devices go wrong in."""
# ruff: noqa: N802, D401 - the names are those of the Tango interface
# mypy: disable-error-code="no-redef, untyped-decorator, misc"

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import tango
from tango.server import attribute, command, device_property

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices import LeafSimulator
from milonga.errors import MilongaError
from milonga.lrc import Job, Reply, Reporter
from milonga.testing._events import UnreliableEvents
from milonga.testing._faults import AbortFault, CommandFault, CrashAt, parse_faults

__all__ = ["FaultyLeaf"]

LRC_REPLY = "DevVarLongStringArray"
EXIT_CODE = 70
"""Of a server process that crashes on purpose."""

ANSWERED_WITHIN = 0.1
"""Seconds that Tango has to send the answer to a call after which the server crashes."""

HANG = 60.0
"""Seconds for which an abort hangs that is to hang."""


class FaultyLeaf(LeafSimulator):
    """Does as its script says, and wrong what its faults say.

    `script` is that of `milonga.devices.LeafSimulator`: how long commands take and how they end.
    `faults` is a JSON object; see `milonga.testing.Faults`.
    """

    Faults = device_property(dtype=str, default_value="{}", doc="What goes wrong: JSON.")

    def set_up(self) -> None:
        """Take script and faults of the properties."""
        super().set_up()
        self._counting = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._faults_text = "{}"
        self._faults = parse_faults("{}")
        self._events = UnreliableEvents(self.scheduler.call_later)
        self._set_faults(self.Faults or "{}")

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return what script and faults say of the command."""
        fault = self._faults.of(name)
        self._count(name)
        if fault.crash is CrashAt.CALL:
            self._crash()
        if fault.hang_before_reply:
            time.sleep(fault.hang_before_reply)
        if fault.raises:
            tango.Except.throw_exception("FaultyLeaf_Raised", fault.raises, name)
        job = super().make_job(name, argument)
        job.start = partial(self._start, fault, job.start)
        if self._faults.abort is AbortFault.IGNORE:
            job.abort = _ignore
        if fault.overrun:
            job.limit = _ignore_limit
        if fault.forget:
            job.on_submitted = self._forgotten.add
        return job

    @attribute(dtype=str)
    def faults(self) -> str:
        """What goes wrong: a JSON object."""
        return self._faults_text

    @faults.write
    def faults(self, text: str) -> None:
        self._set_faults(text)

    @attribute(dtype=str)
    def faultCounts(self) -> str:
        """What was called how often, and what became of events: a JSON object of numbers."""
        with self._counting:
            return json.dumps(dict(self._counts) | self._events.counts)

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def AbortCommand(self, command_id: str) -> tuple[list[int], list[str]]:
        """End one command, unless that goes wrong."""
        refusal = self._abort_fault("AbortCommand")
        code, text = refusal or self.commands.abort_one(command_id)
        return [int(code)], [text]

    @command(dtype_out=LRC_REPLY)
    def Abort(self) -> tuple[list[int], list[str]]:
        """End all commands, unless that goes wrong."""
        code, text = self._abort_fault("Abort") or self._abort()
        return [int(code)], [text]

    @command(dtype_in=str, dtype_out=str)
    def CheckLongRunningCommandStatus(self, command_id: str) -> str:
        """Return the status of a command, unless it is to be forgotten."""
        if command_id in self._forgotten:
            return TaskStatus.NOT_FOUND.name
        return str(self._table.status_of(command_id).name)

    @command
    def Crash(self) -> None:
        """End the server process at once, with no word to anybody."""
        self._crash()

    def dev_state(self) -> tango.DevState:
        """Return the State, or the one that the device is to lie about."""
        lie = self._faults.state
        return getattr(tango.DevState, lie) if lie else super().dev_state()

    def _set_faults(self, text: str) -> None:
        self._faults = parse_faults(text)
        self._faults_text = text
        self._forgotten: set[str] = set()
        self._events.change(self._faults.events)
        with self._counting:
            self._counts.clear()

    def _start(
        self, fault: CommandFault, start: Callable[[Reporter], None], report: Reporter
    ) -> None:
        if fault.crash is CrashAt.START:
            with tango.AutoTangoMonitor(self):  # until the call has returned, and is answered
                self.scheduler.call_later(ANSWERED_WITHIN, self._crash)
            return
        if fault.crash_after is not None:
            self.scheduler.call_later(fault.crash_after, self._crash)
        if fault.hang:
            with tango.AutoTangoMonitor(self):  # as blocking code in a Tango command does
                time.sleep(fault.hang)
        if fault.bug:
            raise RuntimeError(fault.bug)
        start(report)

    def _abort_fault(self, name: str) -> Reply | None:
        """Do what goes wrong with an abort; return its answer, None if nothing does."""
        self._count(name)
        fault = self._faults.abort
        if fault is AbortFault.HANG:
            time.sleep(HANG)
        if fault is AbortFault.RAISE:
            tango.Except.throw_exception("FaultyLeaf_Raised", "no abort here", name)
        one = fault is AbortFault.REFUSE_ONE and name == "AbortCommand"
        if fault is AbortFault.REFUSE or one:
            return ResultCode.REJECTED, "no abort here"
        return None

    def _push(self, name: str, value: object) -> None:
        if name == "_lrcEvent":
            self._events.send(partial(self._push_late, name, value))
        else:
            super()._push(name, value)

    def _push_late(self, name: str, value: object) -> None:
        try:
            super()._push(name, value)
        except tango.DevFailed as error:
            raise MilongaError(f"{name} could not be pushed: {error}") from error

    def _read_table(self, name: str) -> tuple[str, ...]:
        entries = super()._read_table(name)
        if not self._forgotten:
            return entries
        return tuple(text for text in entries if not any(uid in text for uid in self._forgotten))

    def _count(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1

    def _crash(self) -> None:
        os._exit(EXIT_CODE)


def _ignore() -> None:
    """Take the place of an abort that has no effect."""


def _ignore_limit(_seconds: float) -> None:
    """Take the place of a limit that has no effect."""
