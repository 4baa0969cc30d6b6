"""What became of each child in the command that ended last, as data.

A result is one code and one text, and says of a part success only that it is none. Here is every
child with its own.
"""

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from milonga.control_model import ResultCode
from milonga.tracking import parse_result

__all__ = ["LastOutcomes", "bounded"]

MAX_TEXT = 64 * 1024
"""Characters that the outcomes of one command take at the most."""

MESSAGE_LENGTH = 200
"""Characters of a child's message that are kept."""

Outcome = Mapping[str, Any]


class LastOutcomes:
    """The outcomes of the command that ended last. Safe across threads.

    The text is made by who wants it, since most commands end with nobody looking.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[str, str, Outcome] | None = None
        self._text = "{}"

    def note(self, command_id: str, command: str, payload: Outcome) -> None:
        """Take the completion payload of a command's tree."""
        with self._lock:
            self._last = (command_id, command, payload)
            self._text = ""

    def text(self) -> str:
        """Return the outcomes: a JSON object; ``{}`` as long as no command has ended."""
        with self._lock:
            if not self._text and self._last is not None:
                self._text = json.dumps(_described(*self._last))
            return self._text


def _described(command_id: str, command: str, payload: Outcome) -> dict[str, Any]:
    status = payload["status"]
    code, message = parse_result(payload.get("result"), status)
    kept, omitted = bounded(payload.get("outcomes", ()))
    return {
        "command": command,
        "command_id": command_id,
        "status": status.name,
        "result_code": (ResultCode.UNKNOWN if code is None else code).name,
        "message": message[:MESSAGE_LENGTH],
        "partial": payload.get("health_state") == "DEGRADED" and code == ResultCode.FAILED,
        "outcomes": kept,
        "omitted": omitted,
    }


def bounded(outcomes: Iterable[Outcome]) -> tuple[list[dict[str, Any]], int]:
    """Return outcomes that do not take too much room, and how many had to be left out.

    Messages are shortened, and what has succeeded is left out first.

    Examples
    --------
    >>> bounded([{"name": "a", "result_code": "OK", "message": ""}])
    ([{'name': 'a', 'result_code': 'OK', 'message': ''}], 0)
    """
    short = [{**one, "message": str(one["message"])[:MESSAGE_LENGTH]} for one in outcomes]
    sizes = [len(json.dumps(one)) + 2 for one in short]
    room = MAX_TEXT
    kept: set[int] = set()
    for index in sorted(range(len(short)), key=lambda n: short[n]["result_code"] == "OK"):
        if sizes[index] <= room:
            room -= sizes[index]
            kept.add(index)
    return [one for index, one in enumerate(short) if index in kept], len(short) - len(kept)
