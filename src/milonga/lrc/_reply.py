"""Calling a command, and understanding what the device answers."""

import re
from typing import Any

import tango

from milonga.control_model import ResultCode
from milonga.errors import CommandRejected, ProtocolError, Unreachable
from milonga.tracking import AbortAnswer

__all__ = [
    "code_and_text",
    "describe",
    "is_not_allowed",
    "is_unreachable",
    "parse_reply",
    "timed_out",
    "was_not_sent",
]

_UNREACHABLE = frozenset(
    {
        "API_CantConnectToDevice",
        "API_CommunicationFailed",
        "API_CorbaException",
        "API_DeviceNotExported",
        "API_DeviceTimedOut",
        "API_ServerNotRunning",
        "DB_DeviceNotDefined",
    }
)
# The first that an error has counts. Where a reason is here, Tango's own text is long, and what it
# says of the cause stands at its end, where it is cut.
_REASONS = {
    "API_DeviceNotExported": "its server is not running",
    "DB_DeviceNotDefined": "the Tango database does not know it",
    "API_CantConnectToDevice": "nothing answers where its server was",
    "API_CommunicationFailed": "the connection to it broke",
    "API_CorbaException": "the connection to it broke",
}
_REFUSED_BY_STATE = "StateModelError: "
"""What SKA devices, and ours, put before the text of a refusal: a name of Python's for no bug."""

_TIME_LIMIT = re.compile(r"Timeout \((\d+) mS\)")
_NO_DATABASE = re.compile(r"on host (\S+) with port (\d+)")


def describe(error: tango.DevFailed) -> str:
    """Say in one line what a Tango error means."""
    reasons = [entry.reason for entry in error.args]
    if "API_DeviceTimedOut" in reasons:
        return _late(error)
    for entry in error.args:
        if entry.reason == "API_CantConnectToDatabase":
            where = _NO_DATABASE.search(entry.desc)
            return f"no Tango database answers at {':'.join(where.groups()) if where else '?'}"
    for reason, text in _REASONS.items():
        if reason in reasons:
            return text
    text = " ".join(str(error.args[0].desc).split()) if error.args else "unknown Tango error"
    return text.removeprefix(_REFUSED_BY_STATE)


def _late(error: tango.DevFailed) -> str:
    """Say how long was waited; of a command, that it may have begun."""
    texts = " ".join(entry.desc for entry in error.args)
    limit = _TIME_LIMIT.search(texts)
    when = f"within {int(limit[1]) / 1000:g} s" if limit else "in time"
    is_command = any(entry.reason == "API_CommandFailed" for entry in error.args)
    unknown = "; whether the command runs is not known" if is_command else ""
    return f"it did not answer {when}{unknown}"


def is_unreachable(error: tango.DevFailed) -> bool:
    """Tell whether an error means that the device did not answer, rather than that it refused."""
    return any(entry.reason in _UNREACHABLE for entry in error.args)


def answer_of(error: tango.DevFailed) -> tuple[AbortAnswer, str]:
    """Return what an error means as the answer to an abort."""
    if timed_out(error):
        return AbortAnswer.NO_ANSWER, describe(error)
    answer = AbortAnswer.UNREACHABLE if is_unreachable(error) else AbortAnswer.REFUSED
    return answer, describe(error)


def timed_out(error: tango.DevFailed) -> bool:
    """Tell whether an error means that the device is there, but did not answer in time."""
    return any(entry.reason == "API_DeviceTimedOut" for entry in error.args)


def was_not_sent(error: tango.DevFailed) -> bool:
    """Tell whether an error means that there was no connection over which to send anything."""
    return any(entry.reason == "API_CantConnectToDevice" for entry in error.args)


def is_not_allowed(error: tango.DevFailed) -> bool:
    """Tell whether an error means that the device's state forbids the command."""
    return any(entry.reason == "API_CommandNotAllowed" for entry in error.args)


def parse_reply(
    name: str, command: str, proxy: tango.DeviceProxy, data: tango.DeviceData, by: str = ""
) -> str:
    """Call `command`, or the command `by` that carries it, and return the id that it got.

    Raises
    ------
    CommandRejected
        If the device refused the command.
    Unreachable
        If it did not answer.
    ProtocolError
        If it answered with something else than ``([code], [text])``.
    """
    try:
        reply = proxy.command_inout(by or command, data)
    except tango.DevFailed as error:
        text = f"{name}/{command}: {describe(error)}"
        if is_unreachable(error):
            raise Unreachable(text) from error
        raise CommandRejected(text) from error
    try:
        result, text = code_and_text(reply)
    except (TypeError, ValueError) as error:
        raise ProtocolError(
            f"{name}/{command} answered {reply!r}; expected ([ResultCode], [text])"
        ) from error
    if result in {ResultCode.QUEUED, ResultCode.STARTED}:
        return str(text)
    if result in {ResultCode.REJECTED, ResultCode.NOT_ALLOWED}:
        raise CommandRejected(f"{name}: {text}")
    raise ProtocolError(
        f"{name}/{command} answered {result.name} ({text}); expected QUEUED, STARTED or REJECTED"
    )


def code_and_text(reply: Any) -> tuple[ResultCode, str]:
    """Read ``([code], [text])``; also the two texts ``("2", id)`` that some devices give.

    Raises
    ------
    TypeError, ValueError
        If the reply has another form.

    Examples
    --------
    >>> code_and_text([[2], ["1_2_On"]]) == code_and_text(["2", "1_2_On"])
    True
    """
    code, text = reply
    if not isinstance(code, str):
        (code,), (text,) = code, text
    return ResultCode(int(code)), str(text)
