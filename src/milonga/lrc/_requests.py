"""What is said to a device beside its commands: how long they may take, that they are to end."""

import json
import time
from typing import TYPE_CHECKING

import tango

from milonga.control_model import OBS_COMMANDS, ResultCode, TaskStatus, is_final
from milonga.lrc._invocation import Invocation
from milonga.lrc._reply import answer_of, code_and_text
from milonga.tracking import AbortAnswer

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = [
    "QUICK",
    "SUBMIT",
    "TAKEN_TIMED",
    "answer_in",
    "ask_to_abort",
    "hands_time_on",
    "timed_request",
]

SUBMIT = "SubmitCommand"
"""The command by which a Milonga device takes another one with a time limit."""

QUICK = 1.0
"""Seconds within which a call has failed that waited for nobody."""

_TIMED = frozenset({"On", "Off", "Standby", "Reset", *OBS_COMMANDS})
"""What every Milonga device takes by `SubmitCommand`, if it takes it at all."""

TAKEN_TIMED = "ResultCode, and id or reason; also by SubmitCommand"
"""What other commands say of their reply that a device takes by `SubmitCommand` as well."""


def timed_request(command: str, argument: str | None, seconds: float) -> str:
    """Return what `SubmitCommand` takes for a command that may take so many seconds.

    Examples
    --------
    >>> timed_request("On", None, 2.5)
    '{"command": "On", "timeout": 2.5}'
    """
    request: dict[str, object] = {"command": command, "timeout": round(seconds, 3)}
    return json.dumps(request | ({} if argument is None else {"argument": argument}))


def hands_time_on(link: "Link", invocation: Invocation) -> bool:
    """Tell whether the device is told how long the command may take, as Milonga's can be."""
    left, info = invocation.time_left, link.command(invocation.command)
    known = invocation.command in _TIMED or (info and info.out_type_desc == TAKEN_TIMED)
    can = bool(known) and SUBMIT in link.commands()
    return can and left is not None and left > 0


def ask_to_abort(link: "Link", invocation: Invocation) -> tuple[AbortAnswer, str]:
    """Ask by the command's id; a device that cannot do so is asked to abort all it does."""
    known = link.commands()
    by_id = "AbortCommand" in known
    name = next((name for name in _ENDERS if name in known), "AbortCommands")
    began = time.monotonic()
    for attempt in range(2):
        try:
            # a connection that has failed lately is not tried again by Tango for a second
            proxy = tango.DeviceProxy(link.trl) if attempt else link.proxy()
            if proxy is None:
                continue
            reply = proxy.command_inout(name, *([invocation.command_id] if by_id else []))
        except tango.DevFailed as error:
            answer, text = answer_of(error)
            quick = time.monotonic() - began < QUICK
            if attempt or not (quick and answer is AbortAnswer.UNREACHABLE):
                return answer, text
        else:
            answer, text = answer_in(reply, name)
            over = _end_of(link, proxy, invocation) if by_id and not answer.is_good else ""
            return (AbortAnswer.ACK, over) if over else (answer, text)
    return AbortAnswer.UNREACHABLE, "not connected"


def _end_of(link: "Link", proxy: tango.DeviceProxy, invocation: Invocation) -> str:
    """Return how a command is over that the device did not abort; empty if it is not."""
    if CHECK not in link.commands():
        return ""
    try:
        answer = proxy.command_inout(CHECK, invocation.command_id)
    except tango.DevFailed:
        return ""
    status = TaskStatus.__members__.get(answer)
    if status is None or status is TaskStatus.NOT_FOUND:
        return "the device does not know it any more"
    return "it had ended" if is_final(status) else ""


CHECK = "CheckLongRunningCommandStatus"

_ENDERS = ("AbortCommand", "Abort", "AbortCommands")


def answer_in(reply: object, name: str) -> tuple[AbortAnswer, str]:
    """Return what the reply of the command `name`, which ends others, means."""
    try:
        code, text = code_and_text(reply)
    except (TypeError, ValueError):
        return AbortAnswer.ACK, f"took {name}"
    refused = code in {ResultCode.REJECTED, ResultCode.NOT_ALLOWED, ResultCode.FAILED}
    return (AbortAnswer.REFUSED, text) if refused else (AbortAnswer.ACK, f"took {name}")
