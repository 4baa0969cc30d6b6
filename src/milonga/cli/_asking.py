"""What a device says of its commands when it is asked: its records, or else what it remembers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import tango

from milonga.cli._looking import TreeReader, read_tables, result_fields
from milonga.cli._outcome import outcome_of_record
from milonga.cli._recorded import NOT_OFFERED
from milonga.cli._tree_view import (
    device_name,
    duration,
    is_over,
    outcome_word,
    waiting_lines,
)
from milonga.control_model import TaskStatus
from milonga.errors import CommandRejected, Unreachable
from milonga.lrc import describe
from milonga.records import explain_tree

__all__ = ["CommandLine", "explain", "list_commands"]

CommandLine = dict[str, Any]
"""A command in a list: `id`, `command`, `outcome` (one word), `message`, `started`."""


def list_commands(trl: str, limit: int = 20) -> list[CommandLine]:
    """List commands of a device, the newest first.

    Its records are asked, if it keeps some, as they go further back than its tables.

    Raises
    ------
    Unreachable
        If the device does not answer.
    """
    text = _asked(trl, "QueryTasks", lambda name: json.dumps({"device": name, "limit": limit}))
    if text is not None:
        return [
            {
                "id": task["uid"],
                "command": task["command"] or task["name"],
                "outcome": outcome_of_record(task),
                "message": task.get("message"),
                "started": task.get("runningAt") or task.get("startedAt"),
            }
            for task in json.loads(text)["tasks"]
        ]
    tables = read_tables(trl)
    records = (*tables.queued, *tables.executing, *tables.finished)
    lines = [_line(record) for record in records]
    return sorted(lines, key=lambda line: str(line["started"]), reverse=True)[:limit]


def explain(trl: str, command_id: str) -> list[str]:
    """Say why a command failed, or what it waits for; the answer is in the first line.

    Raises
    ------
    CommandRejected
        If the device does not know the command.
    Unreachable
        If it does not answer.
    """
    text = _asked(trl, "ExplainTask", lambda _name: command_id)
    if text is not None:
        return str(json.loads(text)["text"]).splitlines()
    snapshot = TreeReader().read(trl, command_id)
    if not snapshot:
        return _explained_by_table(trl, command_id)
    return _explained_by_tree(trl, snapshot)


def _explained_by_tree(trl: str, snapshot: dict[str, Any]) -> list[str]:
    lines = explain_tree(snapshot, device_name(trl)).lines()
    if is_over(snapshot):
        return lines
    now = datetime.now(UTC)
    seconds = duration(snapshot, now)
    since = [] if seconds is None else [f"for {seconds:.1f} s, {snapshot.get('progress')} %"]
    return [*lines, *since, *(line.plain.strip() for line in waiting_lines(snapshot, now))]


def _explained_by_table(trl: str, command_id: str) -> list[str]:
    """Explain a command of a device that commands nobody: all there is of its tree is the root."""
    tables = read_tables(trl)
    for record in (*tables.queued, *tables.executing, *tables.finished):
        if record.get("uid") == command_id:
            status = {"status": _status(record.get("status")), "command_id": command_id}
            root = {"name": record.get("name")} | status | result_fields(record.get("result"))
            return explain_tree(root, device_name(trl)).lines()
    raise CommandRejected(
        f"{device_name(trl)}: command: found {command_id!r}, which it does not know"
    )


def _line(record: dict[str, Any]) -> CommandLine:
    fields = result_fields(record.get("result"))
    status = _status(record.get("status"))
    return {
        "id": record.get("uid"),
        "command": record.get("name"),
        "outcome": outcome_word({"status": status} | fields),
        "message": fields.get("message", ""),
        "started": record.get("started_time") or record.get("submitted_time"),
    }


def _status(value: object) -> str:
    if isinstance(value, int) and value in {int(status) for status in TaskStatus}:
        return TaskStatus(value).name
    return str(value or "QUEUED")


def _asked(trl: str, command: str, argument: Callable[[str], str]) -> str | None:
    """Ask a device's records; None if it keeps none. The argument is made from its own name."""
    try:
        proxy = tango.DeviceProxy(trl)
        return str(proxy.command_inout(command, argument(proxy.dev_name())))  # not an alias
    except tango.DevFailed as error:
        if error.args[0].reason in NOT_OFFERED:
            return None
        raise Unreachable(f"{device_name(trl)}: {describe(error)}") from error
