"""What a device's tables tell of commands whose ids are not known.

A process that was killed between a call and its answer does not know the id of the command that
it may have started. The device does.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import tango

from milonga.lrc._wire import command_name

__all__ = ["Trace", "find_traces", "tells_all_since"]

_TABLES = ("lrcQueue", "lrcExecuting", "lrcFinished")
_STARTED = "startedAt"
_LEGACY_IDS = "longRunningCommandIDsInQueue"

CLOCK_SLACK = 5.0
"""Seconds by which the clocks of two hosts may differ."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What is to be looked for: a command, since when, and the process that called it."""

    command: str
    since: datetime
    pid: int | None = None


def tells_all_since(
    proxy: tango.DeviceProxy, attributes: Collection[str], moment: datetime
) -> bool:
    """Tell whether the device has known of its commands since before `moment`.

    Milonga's devices say since when they do; of others that is not known.

    Raises
    ------
    tango.DevFailed
        If the device does not answer.
    """
    if _STARTED not in attributes:
        return False
    try:
        return datetime.fromisoformat(proxy.read_attribute(_STARTED).value) <= moment
    except (ValueError, TypeError):
        return False


def find_traces(
    proxy: tango.DeviceProxy, attributes: Collection[str], trace: Trace
) -> Sequence[str]:
    """Return the ids of the commands that may be the one that is looked for.

    Parameters
    ----------
    proxy : tango.DeviceProxy
        The device.
    attributes : collection of str
        Those that it has.
    trace : Trace
        What is looked for.

    Raises
    ------
    tango.DevFailed
        If the device does not answer.
    """
    if set(_TABLES) <= set(attributes):
        values = proxy.read_attributes(list(_TABLES))
        entries = [entry for value in values for entry in value.value or ()]
        return [uid for entry in entries if (uid := _matching(entry, trace)) is not None]
    if _LEGACY_IDS in attributes:
        known = proxy.read_attribute(_LEGACY_IDS).value or ()
        return [uid for uid in known if uid and _is_since(uid, _moment_in(uid), trace)]
    return ()


def _matching(entry: str, trace: Trace) -> str | None:
    try:
        command = json.loads(entry)
        uid = command["uid"]
        moment = datetime.fromisoformat(command["submitted_time"])
        caller = command.get("client", {}).get("pid")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if None not in (caller, trace.pid) and caller != trace.pid:
        return None
    return uid if isinstance(uid, str) and _is_since(uid, moment, trace) else None


def _is_since(uid: str, moment: datetime | None, trace: Trace) -> bool:
    if command_name(uid) != trace.command or moment is None:
        return False
    return (moment - trace.since).total_seconds() >= -CLOCK_SLACK


def _moment_in(uid: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(uid.split("_", 1)[0]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
