"""What the command line reads from devices, besides calling them: trees and tables of commands."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tango

from milonga.cli._tree_view import device_name, is_over
from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ArgumentError, MilongaError, ProtocolError, Unreachable
from milonga.lrc import describe
from milonga.lrc import task_tree as trees

__all__ = [
    "HOLD_OFF",
    "LOOK_EVERY",
    "CommandTables",
    "TreeReader",
    "beside",
    "command_status",
    "database_host",
    "finished_result",
    "full_trl",
    "not_read",
    "read_tables",
    "result_fields",
]

LOOK_EVERY = 0.2
"""Seconds between two looks at a device."""

HOLD_OFF = 1.1
"""Seconds from a look that failed to the next.

cppTango refuses to reconnect within a second of a failure, whatever the other side does by then.
"""

_TABLES = ("lrcQueue", "lrcExecuting", "lrcFinished")
_CALL_TIMEOUT = 1.0
_SKIP_SECONDS = 5.0
_MAX_LEVELS = 8
_TRL = re.compile(r"^(tango://[^/]+:\d+/)?([\w.\-]+|[^/#\s]+/[^/#\s]+/[^/#\s]+)(#dbase=no)?$")


def full_trl(trl: str, tango_host: str | None = None) -> str:
    """Check a device's address, and say which database it is of.

    Parameters
    ----------
    trl : str
        ``domain/family/member``, an alias, or a whole ``tango://`` address.
    tango_host : str, optional
        ``host:port`` of the database. Default: TANGO_HOST.

    Raises
    ------
    ArgumentError
        If it is not an address, or no database is known.
    """
    if not _TRL.match(trl):
        raise ArgumentError(f"device: found {trl!r}, expected domain/family/member or tango://…")
    if trl.startswith("tango://"):
        return trl
    return f"tango://{database_host(tango_host)}/{trl}"


def database_host(tango_host: str | None = None) -> str:
    """Return where the Tango database is: what is given, or else TANGO_HOST.

    Raises
    ------
    ArgumentError
        If no database is known.
    """
    host = tango_host or os.environ.get("TANGO_HOST") or tango.ApiUtil.get_env_var("TANGO_HOST")
    if not host:
        raise ArgumentError("no Tango database is known; set TANGO_HOST or give --tango-host")
    return host


@dataclass(frozen=True)
class CommandTables:
    """The commands of a device: each entry is as the device publishes it."""

    queued: tuple[dict[str, Any], ...]
    executing: tuple[dict[str, Any], ...]
    finished: tuple[dict[str, Any], ...]


def read_tables(trl: str) -> CommandTables:
    """Read a device's queue, running and finished commands.

    Raises
    ------
    Unreachable
        If the device does not answer.
    ArgumentError
        If it has no such tables.
    ProtocolError
        If what it has is none.
    """
    device = device_name(trl)
    try:
        found = _attributes(trl)
    except tango.DevFailed as error:
        wanted = f"found no attributes {', '.join(_TABLES)}; expected a device with"
        raise not_read(device, error, f"{wanted} long-running commands") from error
    return CommandTables(*(_entries(device, attribute) for attribute in found))


def not_read(device: str, error: tango.DevFailed, missing: str) -> MilongaError:
    """Return what to raise where an attribute was not read: it is `missing`, or nobody answers."""
    if error.args[0].reason == "API_AttrNotFound":
        return ArgumentError(f"{device}: {missing}")
    return Unreachable(f"{device}: {describe(error)}")


def _attributes(trl: str) -> list[tango.DeviceAttribute]:
    """Read the tables as they are; raise also for one alone, which `read_attributes` does not."""
    found: list[tango.DeviceAttribute] = tango.DeviceProxy(trl).read_attributes(list(_TABLES))
    for attribute in found:
        if attribute.has_failed:
            raise tango.DevFailed(*attribute.get_err_stack())
    return found


def _entries(device: str, attribute: tango.DeviceAttribute) -> tuple[dict[str, Any], ...]:
    """Read the entries of a table.

    Raises
    ------
    ProtocolError
        If they are no JSON objects.
    """
    try:
        entries = tuple(json.loads(text) for text in attribute.value or ())
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(
            f"{device}: {attribute.name}: {error}; expected texts of JSON"
        ) from error
    if not all(isinstance(entry, dict) for entry in entries):
        raise ProtocolError(f"{device}: {attribute.name}: expected JSON objects")
    return entries


def command_status(proxy: tango.DeviceProxy, command_id: str) -> TaskStatus:
    """Ask a device for the status of a command; what it calls as we do not is not found.

    Raises
    ------
    tango.DevFailed
        If it does not answer.
    """
    name = proxy.command_inout("CheckLongRunningCommandStatus", command_id)
    return TaskStatus.__members__.get(name, TaskStatus.NOT_FOUND)


def finished_result(proxy: tango.DeviceProxy, command_id: str) -> dict[str, str]:
    """Read how a command ended from a device's table, as fields of a tree's node.

    Raises
    ------
    tango.DevFailed
        If it does not answer.
    ProtocolError
        If its table is none.
    """
    for record in _entries(proxy.dev_name(), proxy.read_attribute("lrcFinished")):
        if record.get("uid") == command_id:
            return result_fields(record.get("result"))
    return {}


def result_fields(result: object) -> dict[str, str]:
    """Return a result of the tables as fields of a tree's node; none if it is no result."""
    if not isinstance(result, list) or not result:
        return {}
    known = isinstance(result[0], int) and result[0] in {int(code) for code in ResultCode}
    code = ResultCode(result[0]) if known else ResultCode.UNKNOWN
    return {"result_code": code.name, "message": " ".join(map(str, result[1:]))}


@dataclass
class TreeReader:
    """Reads command trees: as the device tells them while they run, in full once they are over.

    A device that tells none is asked for its own part of the tree, and those that it waits for are
    asked for theirs.

    Parameters
    ----------
    clock : callable
        Monotonic time in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _proxies: dict[str, tango.DeviceProxy] = field(default_factory=dict)
    _finished: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _skip_until: dict[tuple[str, str], float] = field(default_factory=dict)

    def read(self, trl: str, command_id: str, level: int = 0) -> dict[str, Any]:
        """Give the tree of a command; empty if the device has none.

        Parameters
        ----------
        trl : str
            The device's whole address.
        command_id : str
            The command.
        level : int
            How many devices are above this one.
        """
        known = self._finished.get((trl, command_id))
        if known is not None:
            return known
        told = self._told(trl, command_id) if level == 0 else {}
        if told and not is_over(told):
            return told  # one account of it: its progress is weighted from the top to the leaves
        snapshot = self._ask(trl, command_id) or told
        over = bool(snapshot) and is_over(snapshot)
        if level < _MAX_LEVELS:
            over &= self._nest(snapshot, trl, level)
        if over:
            self._finished[trl, command_id] = snapshot
        return snapshot

    def _told(self, trl: str, command_id: str) -> dict[str, Any]:
        """Give the command's node in what the device tells of its commands; empty if there is none.

        Its text may be cut and its steps counted, which is enough while it runs.
        """

        def read(proxy: tango.DeviceProxy) -> dict[str, Any] | None:
            document = trees.read_document(proxy.read_attribute("taskTree").value)
            return trees.find_command(document, command_id)

        return self._read(trl, "taskTree", read) or {}

    def _nest(self, node: dict[str, Any], trl: str, level: int) -> bool:
        """Fill in what is below `node`; tell whether all of it has ended."""
        over = True
        children = node.get("children") or []
        for child in children:
            over &= self._nest(child, trl, level)
        target, command_id = node.get("target"), node.get("command_id")
        if target and command_id and not children:
            address = beside(trl, str(target))
            if address != trl:
                below = self.read(address, str(command_id), level + 1)
                node["children"] = below.get("children", [])
                over &= not below or is_over(below)
        return over

    def _ask(self, trl: str, command_id: str) -> dict[str, Any]:
        def read(proxy: tango.DeviceProxy) -> Any:
            return json.loads(proxy.command_inout("CommandTree", command_id))

        snapshot = self._read(trl, "CommandTree", read)
        return snapshot if isinstance(snapshot, dict) else {}

    def _read(self, trl: str, what: str, read: Callable[[tango.DeviceProxy], Any]) -> Any:
        """Read something of a device; None for a while after that has failed.

        The device is not one of ours, or not there now: the tree is a courtesy, the outcome comes
        otherwise.
        """
        if self._skip_until.get((trl, what), 0.0) > self.clock():
            return None
        try:
            proxy = self._proxies.get(trl)
            if proxy is None:
                proxy = self._proxies[trl] = tango.DeviceProxy(trl)
                proxy.set_timeout_millis(round(_CALL_TIMEOUT * 1000))
            return read(proxy)
        except (tango.DevFailed, ProtocolError, ValueError):
            self._skip_until[trl, what] = self.clock() + _SKIP_SECONDS
            return None


def beside(trl: str, target: str) -> str:
    """Write the address of `target` as seen from the device `trl`.

    Examples
    --------
    >>> beside("tango://db:10000/mid/control/0", "mid/cbf/01")
    'tango://db:10000/mid/cbf/01'
    """
    if target.startswith("tango://") or not trl.startswith("tango://"):
        return target
    return f"{'/'.join(trl.split('/')[:3])}/{target}"
