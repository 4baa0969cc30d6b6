"""Calling a command, and understanding what the device answers."""

from typing import Any

import tango

from milonga.control_model import ResultCode
from milonga.errors import CommandRejected, ProtocolError, Unreachable

__all__ = ["code_and_text", "describe", "is_not_allowed", "is_unreachable", "parse_reply"]

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
_REASONS = {
    "API_DeviceTimedOut": "it did not answer in time; whether the command runs is not known",
    "API_DeviceNotExported": "its server is not running",
    "DB_DeviceNotDefined": "the Tango database does not know it",
}


def describe(error: tango.DevFailed) -> str:
    """Say in one line what a Tango error means."""
    reasons = [entry.reason for entry in error.args]
    for reason, text in _REASONS.items():
        if reason in reasons:
            return text
    return " ".join(str(error.args[0].desc).split()) if error.args else "unknown Tango error"


def is_unreachable(error: tango.DevFailed) -> bool:
    """Tell whether an error means that the device did not answer, rather than that it refused."""
    return any(entry.reason in _UNREACHABLE for entry in error.args)


def is_not_allowed(error: tango.DevFailed) -> bool:
    """Tell whether an error means that the device's state forbids the command."""
    return any(entry.reason == "API_CommandNotAllowed" for entry in error.args)


def parse_reply(name: str, command: str, proxy: tango.DeviceProxy, data: tango.DeviceData) -> str:
    """Call `command` and return the id that the device gave it.

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
        reply = proxy.command_inout(command, data)
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
