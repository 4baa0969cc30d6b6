"""What goes with a command through all threads that work on it.

Tango's telemetry, and logs that name the command, look at the context of the thread that they are
in (`contextvars`). A command begins in a thread of Tango's, its steps start on the device's own
thread, and the calls to children are made on a pool. So the context is taken when the command is
submitted, and entered wherever the command goes on.
"""

import os
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import Job
from milonga.tasks import ExecutionContext
from milonga.tracking import parse_result

__all__ = ["TELEMETRY_VARIABLE", "CommandFacts", "accompany", "carried", "current_command"]

TELEMETRY_VARIABLE = "TANGO_TELEMETRY_ENABLE"
"""Environment variable that switches Tango's telemetry on."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """Which command a thread works on."""

    device: str
    command_id: str
    transaction_id: str | None


_current: ContextVar[CommandFacts | None] = ContextVar("milonga_command", default=None)


def current_command() -> CommandFacts | None:
    """Return which command the calling thread works on, if it does."""
    return _current.get()


def accompany(job: Job, device: str, tracer: Callable[[], Any]) -> None:
    """Have a command keep the context in which it is submitted, and be a span of its trace.

    Parameters
    ----------
    job : Job
        The command, before it is submitted.
    device : str
        Name of the device.
    tracer : callable
        Returns the device's OpenTelemetry tracer; called only if Tango's telemetry is on.
    """
    here = copy_context()
    on_submitted, on_ended = job.on_submitted, job.on_ended
    spans: list[Any] = []

    def submitted(uid: str) -> None:
        transaction = job.origin.transaction_id if job.origin is not None else None
        facts = CommandFacts(device, uid, transaction)
        here.run(_current.set, facts)
        if telemetry_is_on():
            spans.append(here.run(_open_span, f"{device} {job.name}", facts, tracer))
        here.copy().run(on_submitted, uid)

    def ended(status: TaskStatus, result: object) -> None:
        for span in spans:
            _close_span(span, status, result)
        here.copy().run(on_ended, status, result)

    job.on_submitted, job.on_ended = submitted, ended
    job.start = _within(here, job.start)
    job.abort = _within(here, job.abort)


def carried(context: ExecutionContext) -> ExecutionContext:
    """Return a context of execution whose steps all run in the context of the calling thread."""
    return replace(context, runtime=_Carrying(context.runtime, copy_context()))


def telemetry_is_on() -> bool:
    """Tell whether Tango makes spans, as it decides that."""
    return os.environ.get(TELEMETRY_VARIABLE, "").lower() in {"on", "true", "1", "yes"}


class _Runtime(Protocol):
    def call_soon(self, function: Callable[[], None]) -> None: ...

    def call_later(self, delay: float, function: Callable[[], None]) -> Any: ...


class _Carrying:
    """A runtime that runs what it is given in one context."""

    def __init__(self, runtime: _Runtime, here: Context) -> None:
        self._runtime = runtime
        self._here = here

    def call_soon(self, function: Callable[[], None]) -> None:
        self._runtime.call_soon(partial(self._here.copy().run, function))

    def call_later(self, delay: float, function: Callable[[], None]) -> Any:
        return self._runtime.call_later(delay, partial(self._here.copy().run, function))


def _within(here: Context, function: Callable[P, R]) -> Callable[P, R]:
    # each time a copy: no context can be entered twice at the same time
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return here.copy().run(function, *args, **kwargs)

    return run


def _open_span(name: str, facts: CommandFacts, tracer: Callable[[], Any]) -> Any:
    """Begin the span of a command, and make it the current one of this context."""
    # there if telemetry is on, and not needed otherwise
    from opentelemetry import context, trace  # noqa: PLC0415

    span = tracer().start_span(name)
    span.set_attribute("milonga.device", facts.device)
    span.set_attribute("milonga.command_id", facts.command_id)
    if facts.transaction_id is not None:
        span.set_attribute("milonga.transaction_id", facts.transaction_id)
    context.attach(trace.set_span_in_context(span))
    return span


def _close_span(span: Any, status: TaskStatus, result: object) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    code, message = parse_result(result, status)
    span.set_attribute("milonga.status", status.name)
    if code is not None:
        span.set_attribute("milonga.result_code", code.name)
    if status is TaskStatus.COMPLETED and code in {None, ResultCode.OK}:
        span.set_status(StatusCode.OK)
    else:
        span.set_status(StatusCode.ERROR, str(message))
    span.end()
