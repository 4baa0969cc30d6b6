"""Calling a command, and understanding what the device answers."""

import tango

from milonga.control_model import ResultCode
from milonga.errors import CommandRejected, ProtocolError, Unreachable

__all__ = ["describe", "parse_reply"]

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
        if any(entry.reason in _UNREACHABLE for entry in error.args):
            raise Unreachable(text) from error
        raise CommandRejected(text) from error
    try:
        (code,), (text,) = reply
        result = ResultCode(int(code))
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
