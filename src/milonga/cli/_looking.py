"""What the command line reads from devices, besides calling them: trees and tables of commands."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tango

from milonga.cli._tree_view import is_over
from milonga.errors import ArgumentError, Unreachable
from milonga.lrc import describe

__all__ = ["CommandTables", "TreeReader", "full_trl", "read_tables"]

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
    host = tango_host or os.environ.get("TANGO_HOST") or tango.ApiUtil.get_env_var("TANGO_HOST")
    if not host:
        raise ArgumentError(
            f"device {trl}: no Tango database is known; set TANGO_HOST or give --tango-host"
        )
    return f"tango://{host}/{trl}"


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
    """
    names = ["lrcQueue", "lrcExecuting", "lrcFinished"]
    try:
        proxy = tango.DeviceProxy(trl)
        values = [attribute.value for attribute in proxy.read_attributes(names)]
    except tango.DevFailed as error:
        raise Unreachable(f"{trl}: {describe(error)}") from error
    return CommandTables(*(tuple(json.loads(text) for text in value or ()) for value in values))


@dataclass
class TreeReader:
    """Reads command trees, and hangs the trees of children where their parents wait for them.

    Parameters
    ----------
    clock : callable
        Monotonic time in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _proxies: dict[str, tango.DeviceProxy] = field(default_factory=dict)
    _finished: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _skip_until: dict[str, float] = field(default_factory=dict)

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
        snapshot = self._ask(trl, command_id)
        over = bool(snapshot) and is_over(snapshot)
        if level < _MAX_LEVELS:
            over &= self._nest(snapshot, trl, level)
        if over:
            self._finished[trl, command_id] = snapshot
        return snapshot

    def _nest(self, node: dict[str, Any], trl: str, level: int) -> bool:
        """Fill in what is below `node`; tell whether all of it has ended."""
        over = True
        children = node.get("children") or []
        for child in children:
            over &= self._nest(child, trl, level)
        target, command_id = node.get("target"), node.get("command_id")
        if target and command_id and not children:
            address = _beside(trl, str(target))
            if address != trl:
                below = self.read(address, str(command_id), level + 1)
                node["children"] = below.get("children", [])
                over &= not below or is_over(below)
        return over

    def _ask(self, trl: str, command_id: str) -> dict[str, Any]:
        if self._skip_until.get(trl, 0.0) > self.clock():
            return {}
        try:
            proxy = self._proxies.get(trl)
            if proxy is None:
                proxy = self._proxies[trl] = tango.DeviceProxy(trl)
                proxy.set_timeout_millis(round(_CALL_TIMEOUT * 1000))
            snapshot = json.loads(proxy.command_inout("CommandTree", command_id))
        except (tango.DevFailed, ValueError):
            # not one of ours, or not there now: the tree is a courtesy, the outcome comes otherwise
            self._skip_until[trl] = self.clock() + _SKIP_SECONDS
            return {}
        return snapshot if isinstance(snapshot, dict) else {}


def _beside(trl: str, target: str) -> str:
    """Write the address of `target` as seen from the device `trl`.

    Examples
    --------
    >>> _beside("tango://db:10000/mid/control/0", "mid/cbf/01")
    'tango://db:10000/mid/cbf/01'
    """
    if target.startswith("tango://") or not trl.startswith("tango://"):
        return target
    return f"{'/'.join(trl.split('/')[:3])}/{target}"
