"""What a device tells in ``taskTree``: read, drawn, written."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import tango
from rich.console import Console, Group, RenderableType
from rich.text import Text

from milonga.cli._looking import not_read
from milonga.cli._tree_view import device_name, narrow_note, render, waiting_lines
from milonga.errors import ArgumentError, ProtocolError
from milonga.lrc import task_tree as trees

__all__ = ["Document", "read_trees", "shown", "write"]

Document = dict[str, Any]


def read_trees(trl: str) -> Document:
    """Read what a device tells of its commands.

    Raises
    ------
    Unreachable
        If the device does not answer.
    ArgumentError
        If it has no task tree, or what it has is none.
    """
    try:
        text = tango.DeviceProxy(trl).read_attribute("taskTree").value
    except tango.DevFailed as error:
        missing = (
            "found no attribute taskTree; expected a Milonga device that commands others; milonga"
            " watch shows the commands of any other"
        )
        raise not_read(device_name(trl), error, missing) from error
    try:
        return trees.read_document(text)
    except ProtocolError as error:
        raise ArgumentError(f"{device_name(trl)}: {error}") from error


def shown(document: Document, console: Console, now: datetime | None = None) -> RenderableType:
    """Draw the commands of a document, the latest last, each with what it waits for."""
    ascii_only = not (console.encoding or "").lower().startswith("utf")
    now = now or datetime.now(UTC)
    parts: list[RenderableType] = []
    for command in document["commands"]:
        parts.append(render(command, now, ascii_only=ascii_only))
        parts += waiting_lines(command, now)
    if document.get("omitted"):
        parts.append(Text(f"{document['omitted']} older commands are not shown", style="dim"))
    if not parts:
        parts.append(Text(f"{document['device']} has no commands"))
    return Group(*parts, *narrow_note(console.width))


def write(document: Document) -> None:
    """Write a document as a line of JSON, at once."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
