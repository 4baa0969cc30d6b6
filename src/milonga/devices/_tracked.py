"""A Tango device whose commands are long-running and tracked.

This is the protocol alone, with no states or modes of its own (lrc-protocol b.1, c, d).
"""

import itertools
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar

import tango
from tango.server import Device, attribute, command, device_property

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._callers import Caller, caller_of
from milonga.devices._command_context import accompany
from milonga.devices._limits import set_limit
from milonga.devices._lrc_attributes import add_table_attributes, capacity
from milonga.devices._monitoring import DeviceMonitor
from milonga.devices._own_commands import own_command
from milonga.devices._requests import Request, RequestKeys, read_request
from milonga.errors import MilongaError, StateModelError
from milonga.lrc import (
    PROTOCOL_VERSIONS,
    CommandServer,
    CommandTable,
    Job,
    Origin,
    Publisher,
    Push,
    Reply,
    Scheduler,
)

__all__ = ["LRC_REPLY", "LrcReply", "TrackedDevice", "reply"]

LRC_REPLY = "DevVarLongStringArray"
"""What a long-running command answers: a ResultCode, and its id or the reason of a refusal."""

LrcReply = tuple[list[int], list[str]]

MAX_EXECUTING = 2
"""How many commands run at the same time: one, and Abort."""


def reply(answer: Reply) -> LrcReply:
    """Put a reply into the form of a DevVarLongStringArray, whose texts are Latin-1."""
    code, text = answer
    return [int(code)], [latin1(text)]


def latin1(text: str) -> str:
    r"""Write `text` so that Tango can send it.

    Examples
    --------
    >>> latin1("5 ° ☃")
    '5 ° \\u2603'
    """
    return text.encode("latin-1", "backslashreplace").decode("latin-1")


class TrackedDevice(Device):
    """A device whose commands are long-running and tracked.

    A subclass says what a command does by `make_job`, and calls `submit`.
    """

    MaxQueuedTasks = device_property(
        dtype=int, default_value=32, doc="How many commands may wait while one runs."
    )
    DrainTime = device_property(
        dtype=float,
        default_value=1.0,
        doc="Seconds that a command has to end by itself when the device is shut down.",
    )

    AbortTimeout = device_property(
        dtype=float,
        default_value=4.5,
        doc="Seconds that a command has to end once it is aborted; then it is given up.",
    )

    submittable: tuple[str, ...] = ()
    """The commands that `SubmitCommand` takes."""

    _has_tables = False

    _sizes: ClassVar[dict[str, int]] = {}
    _beside: ClassVar[dict[str, int]] = {}
    _own_commands: tuple[str, ...] = ()

    def init_device(self) -> None:
        """Start anew, with no commands."""
        super().init_device()
        self.logger = logging.getLogger(f"milonga.device.{self.get_name()}")
        self._started_at = datetime.now(UTC).isoformat()
        self._pushes = itertools.count()
        size = capacity(self.MaxQueuedTasks, MAX_EXECUTING)
        self._sizes[type(self).__name__] = max(size, self._sizes.get(type(self).__name__, 0))
        self.scheduler = Scheduler(f"milonga {self.get_name()}", tango.EnsureOmniThread)
        self._table = CommandTable(size, MAX_EXECUTING, is_watched=self._is_watched)
        self._publisher = Publisher(self._push, self.scheduler.call_later, _is_busy)
        self._keys = RequestKeys()
        self._deferred: list[Callable[[], None]] = []
        self.commands = CommandServer(
            self._table,
            self._publisher,
            self.scheduler.call_soon,
            self.scheduler.call_later,
            self.MaxQueuedTasks,
            self.AbortTimeout,
        )
        self.monitor = DeviceMonitor(self.get_name(), self.commands, self.scheduler.call_soon)
        self.announce("longRunningCommandResult")
        self.set_change_event("_lrcEvent", True, False)

    def initialize_dynamic_attributes(self) -> None:
        """Add the attributes whose sizes depend on the queue's."""
        kind = type(self).__name__
        executing = MAX_EXECUTING + self._beside.get(kind, 0)
        add_table_attributes(self, self._read_table, self._sizes[kind], executing)
        self._has_tables = True
        deferred, self._deferred = self._deferred, []
        for function in deferred:
            function()

    def when_complete(self, function: Callable[[], None]) -> None:
        """Call `function` once the device has all its attributes, which is after `init_device`."""
        if self._has_tables:
            function()
        else:
            self._deferred.append(function)

    def delete_device(self) -> None:
        """Give every command a final state, and end what this device has started."""
        with tango.AutoTangoAllowThreads(self):  # a push under way may wait for who calls Init
            reason = "The device was shut down while the command was under way"
            self.commands.close(reason, max(0.0, self.DrainTime))
            self.monitor.close()
            self.scheduler.close()
            self._publisher.close()
        super().delete_device()

    # What subclasses say

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return what the command `name` does; raise `MilongaError` to refuse it."""
        raise NotImplementedError(name, argument)

    def default_timeout(self) -> float | None:
        """Return the seconds that a command may take which knows no limit; None for no limit."""
        return None

    def make_abort_job(self) -> Job:
        """Return how an abort is carried on."""
        return Job("Abort", lambda report: report(status=TaskStatus.COMPLETED))

    def note_abort(self, uid: str | None = None) -> None:
        """Take note that who is calling wants one command to end, or all."""

    # For subclasses

    def submit(self, name: str, argument: str | None = None) -> Reply:
        """Submit a command for the client that is calling.

        What Milonga refuses on purpose is REJECTED with its reason.
        """
        return self._submit(lambda: (name, read_request(argument)))

    def offer(self, own: Iterable[str], safety: Iterable[str]) -> None:
        """Have commands that the class has not; to be called in `set_up`.

        Parameters
        ----------
        own : iterable of str
            Their names. Each is submitted under its name, and takes nothing.
        safety : iterable of str
            The safety commands, be they own ones or the class's; they run beside others.
        """
        for name in self._own_commands:
            self.remove_command(name)
        self._own_commands = tuple(own)
        for name in self._own_commands:
            submit = partial(lambda name: reply(self.submit(name)), name)
            self.add_command(own_command(name, LRC_REPLY, submit))
        self.submittable = (*type(self).submittable, *self._own_commands)
        beside = len(tuple(safety))
        self._table.max_executing = MAX_EXECUTING + beside
        kind = type(self).__name__
        self._beside[kind] = max(beside, self._beside.get(kind, 0))

    def announce(self, *names: str) -> None:
        """Arm change and archive events of attributes, which this device pushes itself."""
        for name in names:
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)

    def publish(self, attribute_name: str, value: object) -> None:
        """Push `value` of an attribute to its subscribers, in order; from any thread."""
        self.put([self.numbered(attribute_name, value)])

    def numbered(self, attribute_name: str, value: object) -> Push:
        """Return a push that comes after all that were numbered before it."""
        return Push(attribute_name, value, next(self._pushes))

    def put(self, pushes: list[Push]) -> None:
        """Send pushes, in order; from any thread that holds no lock."""
        self._publisher.put(pushes)

    # Attributes

    @attribute(dtype=("DevLong64",), max_dim_x=2)
    def lrcProtocolVersions(self) -> tuple[int, int]:
        """Lowest and highest version of the long-running-command protocol that is served."""
        return PROTOCOL_VERSIONS

    @attribute(dtype=str)
    def startedAt(self) -> str:
        """Since when this device knows of its commands, in UTC: its last start, or Init."""
        return self._started_at

    @attribute(dtype=(str,), max_dim_x=2)
    def _lrcEvent(self) -> tuple[str, ...]:
        """News of one command, as change events only: its id, and JSON of what is new."""
        return ()

    @attribute(dtype=(str,), max_dim_x=2)
    def longRunningCommandResult(self) -> tuple[str, ...]:
        """Deprecated: id and JSON of the latest result."""
        return self._table.value("longRunningCommandResult")

    # Commands

    @command(dtype_out=LRC_REPLY)
    def Abort(self) -> LrcReply:
        """End all commands but safety commands, here and below. Never queued, never refused."""
        return reply(self._abort())

    @command(dtype_out=LRC_REPLY)
    def AbortCommands(self) -> LrcReply:
        """Do what Abort does; deprecated."""
        self._abort()
        return reply((ResultCode.STARTED, "Aborting commands"))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def AbortCommand(self, command_id: str) -> LrcReply:
        """End one command, by its id, and leave the others."""
        self.note_abort(command_id)
        return reply(self.commands.abort_one(command_id))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def SubmitCommand(self, request: str) -> LrcReply:
        """Call a command by name, with an idempotency key, a transaction id or a time limit.

        Takes a JSON object: ``command``, and any of ``argument``, ``lrc_key``,
        ``transaction_id`` and ``timeout``. The second form of a command, for those that take no
        argument.
        """

        def read() -> tuple[str, Request]:
            wanted = Request.from_json(request, self.submittable)
            return wanted.command, wanted

        return reply(self._submit(read))

    @command(dtype_in=str, dtype_out=str)
    def CheckLongRunningCommandStatus(self, command_id: str) -> str:
        """Return the status of a command by its id; NOT_FOUND if it is not known."""
        return self.commands.status_of(command_id).name

    def refusal_before_queue(self, name: str) -> Reply | None:  # noqa: ARG002 - subclasses look
        """Return why a command is refused at once, without a record; None if it is not."""
        return None

    def check_allowed(self, name: str) -> None:
        """Raise if the device is in the wrong state for a command.

        Here by the guard that Tango asks when a command is called by its own name.
        """
        if not getattr(self, f"is_{name}_allowed", lambda: True)():
            state = self.get_state().name
            tango.Except.throw_exception(
                "API_CommandNotAllowed",
                f"Command {name} not allowed when the device is in {state} state",
                "SubmitCommand",
            )

    def _submit(self, read: Callable[[], tuple[str, Request]]) -> Reply:
        name = "command"
        try:
            name, request = read()
            # the key first: what was done is answered alike, whatever it has changed
            return self._keys.once(name, request, lambda: self._counted(name, request))
        except StateModelError as error:
            self._count_refusal(name)
            tango.Except.throw_exception("PyDs_PythonError", f"StateModelError: {error}", name)
            raise  # not reached: throw_exception has raised
        except MilongaError as error:
            self._count_refusal(name)
            self.logger.info("%s was refused: %s", name, error)
            return ResultCode.REJECTED, str(error)

    def _counted(self, name: str, request: Request) -> Reply:
        try:
            answer = self._enqueue(name, request)
        except tango.DevFailed:  # the guard, where Tango itself has not asked it
            self._count_refusal(name)
            raise
        if answer[0] is ResultCode.REJECTED:
            self._count_refusal(name)
        return answer

    def _count_refusal(self, name: str) -> None:
        self.monitor.refused(name if name in self.submittable else "unknown")

    def _enqueue(self, name: str, request: Request) -> Reply:
        self.check_allowed(name)
        refusal = self.refusal_before_queue(name)
        if refusal is not None:
            return refusal
        job = self.make_job(name, request.argument)
        job.origin = request.origin(self._caller())
        own = self.default_timeout() if job.limit is None else None
        seconds = request.timeout if request.timeout is not None else own
        if seconds is not None:
            set_limit(job, seconds, self.scheduler.call_later)
        self.monitor.follow(job)
        accompany(job, self.get_name(), self.get_telemetry_tracer)
        return self._logged(job.origin, self.commands.submit(job))

    def _abort(self) -> Reply:
        job = self.make_abort_job()
        job.origin = Request().origin(self._caller())
        self.note_abort()
        self.monitor.follow(job)
        accompany(job, self.get_name(), self.get_telemetry_tracer)
        return self._logged(job.origin, self.commands.abort(job))

    def _logged(self, origin: Origin, answer: Reply) -> Reply:
        """Log who called what; later, on the device's own thread, as nobody waits for a log.

        A command that is part of nothing is told at DEBUG: the tables have it, with its caller.
        """
        code, text = answer
        level = logging.INFO if origin.transaction_id is not None else logging.DEBUG
        if self.logger.isEnabledFor(level):
            self.scheduler.call_soon(
                partial(
                    self.logger.log,
                    level,
                    "%s %s, called by %s (pid %s), transaction %s",
                    *(text, code.name, origin.host, origin.pid, origin.transaction_id),
                )
            )
        return answer

    def _caller(self) -> Caller | None:
        return caller_of(self.get_client_ident())

    def _read_table(self, name: str) -> tuple[str, ...]:
        return self._table.value(name)

    def _push(self, name: str, value: object) -> None:
        """Send a value to those who listen; to make Tango's form of it for nobody costs time."""
        if self._is_subscribed(name, _CHANGE):
            self.push_change_event(name, value)
        if name != "_lrcEvent" and self._is_subscribed(name, _ARCHIVE):
            self.push_archive_event(name, value)

    def _is_watched(self, name: str) -> bool:
        return self._is_subscribed(name, _CHANGE) or self._is_subscribed(name, _ARCHIVE)

    def _is_subscribed(self, name: str, kind: tango.EventType) -> bool:
        """Tell what Tango itself looks at before it sends; true for minutes after the last one."""
        if not _CAN_ASK:
            return True
        return bool(self.get_device_attr().get_attr_by_name(name).is_event_subscribed(kind))


_CHANGE, _ARCHIVE = tango.EventType.CHANGE_EVENT, tango.EventType.ARCHIVE_EVENT

_CAN_ASK = hasattr(tango.Attribute, "is_event_subscribed")  # since pytango 10.3


def _is_busy(error: Exception) -> bool:
    """Tell whether a push failed because a command holds the device."""
    return isinstance(error, tango.DevFailed) and any(
        entry.reason == "API_CommandTimedOut" for entry in error.args
    )
