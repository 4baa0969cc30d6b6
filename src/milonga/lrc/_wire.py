"""What goes over the wire: names, ids and the JSON of one command.

Source: lrc-protocol 3.1, 3.2 and d.1.
"""

import json
import math
import time
import uuid
from datetime import UTC, datetime

__all__ = [
    "FINISHED_KEPT",
    "PROTOCOL_VERSIONS",
    "command_name",
    "legal_text",
    "new_command_id",
    "now",
    "parse_progress",
    "to_json",
]

PROTOCOL_VERSIONS = (1, 2)
"""Lowest and highest version of the long-running-command protocol that is served and spoken."""

FINISHED_KEPT = 100
"""How many ended commands ``lrcFinished`` lists."""


def new_command_id(name: str) -> str:
    """Make a command id: time, random number, name.

    Examples
    --------
    >>> new_command_id("On").split("_", 2)[2]
    'On'
    """
    return f"{time.time()}_{uuid.uuid4().fields[-1]}_{name}"


def command_name(command_id: str) -> str:
    """Return the command's name from its id; the id itself when it has another form.

    Examples
    --------
    >>> command_name("1636437568.0723004_235210334802782_On")
    'On'
    """
    parts = command_id.split("_", 2)
    return parts[2] if len(parts) == 3 else command_id  # noqa: PLR2004


def now() -> str:
    """Return the time of now as the wire has it: UTC, ISO 8601, with offset."""
    return datetime.now(UTC).isoformat()


def to_json(value: object) -> str:
    """Write `value` as JSON in the form that clients compare: ASCII, ``", "`` and ``": "``.

    What JSON cannot express is replaced by its text.

    Examples
    --------
    >>> to_json((0, "On command completed OK"))
    '[0, "On command completed OK"]'
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(legal_text(value))


def legal_text(value: object) -> str:
    """Return the text of `value`, or its type where it has none."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a result of somebody's own class
        return f"<{type(value).__name__} without text>"


def parse_progress(progress: object) -> int | str | None:
    """Turn a progress into an integer where that is possible, else into text.

    Examples
    --------
    >>> parse_progress("33"), parse_progress(33.7), parse_progress("slewing")
    (33, 33, 'slewing')
    """
    if progress is None or isinstance(progress, int):
        return progress
    if isinstance(progress, float):
        return int(progress) if math.isfinite(progress) else legal_text(progress)
    text = legal_text(progress)
    try:
        return int(text)
    except ValueError:
        return text
