"""Which device has a command: the one that the records name, or who says so when all are asked."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import tango

from milonga.cli._looking import beside, database_host
from milonga.cli._recorded import recorded_command
from milonga.errors import ArgumentError, CommandRejected, Unreachable
from milonga.lrc import is_unreachable

__all__ = ["device_and_command", "find_command", "is_command_id"]

_CALL_TIMEOUT = 0.5
_AT_ONCE = 32
_NAMED = 5
_COMMAND_ID = re.compile(r"^\d+(\.\d+)?_\d+_\w+$")


def is_command_id(text: str) -> bool:
    """Tell whether a text is the id of a command rather than a device's address.

    Examples
    --------
    >>> is_command_id("1795269560.92_2212_On"), is_command_id("mid-csp/control/0")
    (True, False)
    """
    return _COMMAND_ID.match(text) is not None


def find_command(command_id: str, tango_host: str | None = None, store: str | None = None) -> str:
    """Find the device that has a command.

    Parameters
    ----------
    command_id : str
        The command.
    tango_host : str, optional
        ``host:port`` of the database. Default: TANGO_HOST.
    store : str, optional
        Path or URL of the records, which are asked first. Default: the usual ones.

    Raises
    ------
    CommandRejected
        If all devices answer, and none has it.
    Unreachable
        If the database does not answer, or some of the devices do not, and none of the others
        has the command.
    """
    recorded = recorded_command(command_id, store)
    if recorded is not None and recorded.get("device"):
        return str(recorded["device"])
    host = database_host(tango_host)
    names = _devices(host)
    silent = []
    for name, has_it in _asked(f"tango://{host}/", names, command_id):
        if has_it:
            return name
        if has_it is None:
            silent.append(name)
    if silent:
        more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
        raise Unreachable(
            f"command: found {command_id!r} at none of the {len(names) - len(silent)} devices that"
            f" answer; it may be at {', '.join(sorted(silent)[:_NAMED])}{more}, where nobody does"
        )
    raise CommandRejected(f"command: found {command_id!r}, which none of {len(names)} devices has")


def device_and_command(
    trl: str, command_id: str | None, tango_host: str | None = None, store: str | None = None
) -> tuple[str, str | None]:
    """Tell device and command of what a person gave: a device, both, or only a command's id.

    Raises
    ------
    CommandRejected, Unreachable
        As `find_command` does.
    """
    if command_id is None and is_command_id(trl):
        return find_command(trl, tango_host, store), trl
    return trl, command_id


def _devices(host: str) -> list[str]:
    address, _, port = host.partition(",")[0].partition(":")
    if not port.isdecimal():
        raise ArgumentError(f"Tango database: found {host!r}; expected HOST:PORT")
    try:
        names = tango.Database(address, int(port)).get_device_exported("*").value_string
    except tango.DevFailed as error:
        raise Unreachable(f"no Tango database answers at {host}") from error
    return [name for name in names if not name.startswith(("dserver/", "sys/"))]


def _asked(base: str, names: list[str], command_id: str) -> Iterator[tuple[str, bool | None]]:
    """Ask all devices at once; yield who has the command as the answers come."""
    if not names:
        return
    # a device that hangs takes seconds: it must not keep the others from being asked
    pool = ThreadPoolExecutor(min(_AT_ONCE, len(names)), thread_name_prefix="asking")
    try:
        asked = {pool.submit(_has, beside(base, name), command_id): name for name in names}
        for answer in as_completed(asked):
            yield asked[answer], answer.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _has(trl: str, command_id: str) -> bool | None:
    """Tell whether a device has a command; None if it does not answer."""
    try:
        proxy = tango.DeviceProxy(trl)
        if not proxy.get_idl_version():  # it is not connected, and each call would try again
            return None
        proxy.set_timeout_millis(round(_CALL_TIMEOUT * 1000))
        status = proxy.command_inout("CheckLongRunningCommandStatus", command_id)
    except tango.DevFailed as error:
        return None if is_unreachable(error) else False  # or it has no long-running commands
    return bool(status != "NOT_FOUND")
