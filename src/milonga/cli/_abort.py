"""`milonga abort`: everything that a device does, or one command, ended."""

import json
import sys
import time

import tango

from milonga.cli._call import call
from milonga.cli._exit import ExitCode
from milonga.cli._finding import device_and_command
from milonga.cli._looking import command_status, full_trl
from milonga.cli._tree_view import device_name
from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.errors import CommandRejected, Unreachable
from milonga.lrc import describe

__all__ = ["abort"]

_LOOK_EVERY = 0.1


def abort(
    trl: str,
    command_id: str | None,
    *,
    timeout: float,
    as_json: bool,
    tango_host: str | None,
    store: str | None = None,
) -> ExitCode:
    """Abort, and wait for the end.

    Parameters
    ----------
    trl : str
        The device; or the id of a command, of whichever device.
    command_id : str or None
        Which command; None for all.
    timeout : float
        Seconds to wait.
    as_json : bool
        Whether to write one JSON object and nothing else.
    tango_host : str or None
        ``host:port`` of the database; None for TANGO_HOST.
    store : str or None
        Path or URL of the records, which say whose command it is; None for the usual ones.

    Returns
    -------
    ExitCode
        OK once it has ended; REJECTED if the device has no such command.
    """
    trl, command_id = device_and_command(trl, command_id, tango_host, store)
    if command_id is None:
        return call(trl, "Abort", None, timeout=timeout, as_json=as_json, tango_host=tango_host)
    status = _abort_one(full_trl(trl, tango_host), command_id, timeout)
    over = is_final(status)
    code = ExitCode.OK if over else ExitCode.TIMEOUT
    if as_json:
        told = {"device": trl, "command_id": command_id, "status": status.name, "exit_code": code}
        text = json.dumps(told)
    else:
        words = "" if over else f": no end within {timeout:g} s, but it was asked to"
        text = f"{device_name(trl)} {command_id}: {status.name}{words}"
    sys.stdout.write(f"{text}\n")
    return code


def _abort_one(trl: str, command_id: str, timeout: float) -> TaskStatus:
    deadline = time.monotonic() + timeout
    try:
        proxy = tango.DeviceProxy(trl)
        (code,), (text,) = proxy.command_inout("AbortCommand", command_id)
        if code != ResultCode.OK:
            raise CommandRejected(f"{device_name(trl)}: {text}")
        while True:
            status = command_status(proxy, command_id)
            if is_final(status) or time.monotonic() > deadline:
                return status
            time.sleep(_LOOK_EVERY)
    except tango.DevFailed as error:
        if error.args[0].reason == "API_CommandNotFound":
            raise CommandRejected(
                f"{device_name(trl)}: found no AbortCommand; abort all its commands"
            ) from error
        raise Unreachable(f"{device_name(trl)}: {describe(error)}") from error
