"""What the records have of one command, for commands that look at devices first of all."""

import json
from pathlib import Path
from typing import Any

import tango

from milonga.cli._history_source import default_store
from milonga.errors import RecordNotFound, RecordsError
from milonga.records import RecordStore, StoreSettings, recorded_tree, situation_of_record

__all__ = ["NOT_OFFERED", "recorded_command", "recorded_end"]

NOT_OFFERED = frozenset({"API_CommandNotFound", "RecordsError", "RecordNotFound"})
"""Why a device does not tell of a record: no such command there, no records, or not this one."""


def recorded_command(command_id: str, store: str | None = None) -> dict[str, Any] | None:
    """Return the tree of a command as the records have it; None if they do not.

    Parameters
    ----------
    command_id : str
        The command.
    store : str, optional
        Path or URL of the records. Default: the usual ones, if they are there and can be read.

    Raises
    ------
    RecordsError
        If the store that was named cannot be read.
    """
    where = store or default_store()
    if store is None and "://" not in where and not Path(where).exists():
        return None
    try:
        with RecordStore(where, StoreSettings(migrate=False)) as records:
            return recorded_tree(records, command_id)
    except RecordNotFound:
        return None
    except RecordsError:
        if store is not None:
            raise
        return None  # the devices know as well


def recorded_end(proxy: tango.DeviceProxy, command_id: str) -> dict[str, str]:
    """Ask a device's records how a command ended; return that as fields of a tree's node.

    Returns
    -------
    dict
        Empty if it has not ended, or the device has no record of it.

    Raises
    ------
    tango.DevFailed
        If the device does not answer.
    """
    try:
        record = json.loads(proxy.command_inout("GetTask", command_id))
    except tango.DevFailed as error:
        if error.args[0].reason in NOT_OFFERED:
            return {}
        raise
    situation = situation_of_record(record["phase"], record.get("status"), record.get("cause"))
    if not situation.is_final:
        return {}
    words = situation.words
    return {
        "status": words.task_status.name,
        "result_code": record.get("resultCode") or words.result_code.name,
        "message": record.get("message") or "",
    }
