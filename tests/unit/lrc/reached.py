"""A child device that is reached already, with a double in the place of Tango's proxy."""

import threading
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import tango

from milonga.lrc import ChildDevice, child_device
from milonga.lrc._network import Network

TEXT, VOID = tango.CmdArgType.DevString, tango.CmdArgType.DevVoid
REPLY = tango.CmdArgType.DevVarLongStringArray
V2 = ("lrcProtocolVersions", "lrcQueue", "lrcExecuting", "lrcFinished")
V1 = ("longRunningCommandStatus", "longRunningCommandProgress", "longRunningCommandResult")


class Device:
    """What a proxy is, of a device that answers as the test says."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: list[Any] = []
        self.reply: Callable[[str], Any] = lambda name: [[2], [f"1.0_2_{name}"]]
        self.tables: dict[str, Any] = {}
        self.may_return = threading.Event()
        self.may_return.set()

    def command_inout(self, name: str, argument: Any = None) -> Any:
        """Take a long-running command, or an Abort."""
        self.calls.append(name)
        self.arguments.append(argument)
        return self.reply(name)

    def command_inout_asynch(self, name: str, _argument: Any) -> str:
        """Take a plain command."""
        self.calls.append(name)
        return name

    def command_inout_reply(self, _request: str) -> None:
        """Return from a plain command once it may."""
        if not self.may_return.is_set():
            raise tango.AsynReplyNotArrived

    def cancel_asynch_request(self, _request: str) -> None:
        """Do without the reply."""

    def read_attributes(self, names: Iterable[str]) -> list[SimpleNamespace]:
        """Return what is in the tables."""
        return [SimpleNamespace(value=self.tables.get(name, ())) for name in names]

    def ping(self) -> None:
        """Be there."""

    def set_timeout_millis(self, _milliseconds: int) -> None:
        """Take any."""


class Subscribed:
    """Subscriptions that were made."""

    def __len__(self) -> int:
        return 1

    def end(self) -> None:
        """End them."""


def command(name: str, takes: Any = VOID, gives: Any = VOID) -> SimpleNamespace:
    """Return what Tango tells of a command."""
    return SimpleNamespace(cmd_name=name, in_type=takes, out_type=gives, out_type_desc="")


def reached(
    network: Network, device: Device, *attributes: str, name: str = "a/b/c", protocol: int = 2
) -> ChildDevice:
    """Return a child that has long-running commands, if it has the attributes for them.

    It takes On, Off and Configure; Hold, Move and Stop are plain commands.
    """
    child = child_device(name, owner=network, stay_connected=False)
    known = [command(name, VOID, REPLY) for name in ("On", "Off")]
    known += [command("Configure", TEXT, REPLY)]
    known += [command(name) for name in ("Hold", "Move", "Stop")]
    link: Any = child._link
    link._proxy = device
    link._commands = {info.cmd_name: info for info in known}
    link._attributes = frozenset(attributes)
    link.lrc._protocol, link.lrc._subscriptions = protocol, Subscribed()
    return child
