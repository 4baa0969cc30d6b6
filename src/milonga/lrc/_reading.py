"""What a device's events and tables say about its commands, read into one form.

All functions are forgiving: what has another shape than the protocol's yields nothing, because it
comes from somebody else's device and may arrive on the event thread.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from milonga.control_model import TaskStatus

__all__ = [
    "CommandNews",
    "read_event",
    "read_finished",
    "read_legacy",
    "read_legacy_progress",
    "read_legacy_result",
    "read_legacy_status",
    "read_table",
]


@dataclass(frozen=True, slots=True)
class CommandNews:
    """Something that a device told about one of its commands."""

    command_id: str
    status: TaskStatus | None = None
    progress: object = None
    result: object = None
    extend: float = 0.0
    """Seconds more than allowed that the command has asked for so far, in all."""
    result_gone: bool = False
    """Whether only another command's result is there, so that this one's may have been anything."""


def read_event(value: Sequence[str]) -> Iterator[CommandNews]:
    """Read ``_lrcEvent``: an id, and a JSON object of what is new.

    Examples
    --------
    >>> next(read_event(("1_2_On", '{"status": 5, "result": [0, "done"]}'))).status.name
    'COMPLETED'
    """
    if len(value) != 2:  # noqa: PLR2004 - the protocol's pair
        return
    news = _object(value[1])
    if news is not None:
        yield CommandNews(
            value[0],
            _status(news.get("status")),
            news.get("progress"),
            news.get("result"),
            _seconds(news.get("extend")),
        )


def read_finished(entries: Sequence[str]) -> Iterator[CommandNews]:
    """Read ``lrcFinished``, the newest first."""
    for entry in reversed(entries):
        news = _object(entry)
        if news is not None and isinstance(uid := news.get("uid"), str):
            yield CommandNews(
                uid, _status(news.get("status")), news.get("progress"), news.get("result")
            )


def read_table(entries: Sequence[str], status: TaskStatus) -> Iterator[CommandNews]:
    """Read ``lrcQueue`` or ``lrcExecuting``, whose entries all have `status`."""
    for entry in entries:
        news = _object(entry)
        if news is not None and isinstance(uid := news.get("uid"), str):
            extend = _seconds(news.get("extend"))
            yield CommandNews(uid, status, news.get("progress"), extend=extend)


def read_legacy_status(value: Sequence[str]) -> Iterator[CommandNews]:
    """Read ``longRunningCommandStatus``: ids and status names in turn."""
    for command_id, status in _pairs(value):
        yield CommandNews(command_id, _status(status))


def read_legacy_progress(value: Sequence[str]) -> Iterator[CommandNews]:
    """Read ``longRunningCommandProgress``: ids and progress texts in turn."""
    for command_id, progress in _pairs(value):
        yield CommandNews(command_id, progress=progress)


def read_legacy_result(value: Sequence[str]) -> Iterator[CommandNews]:
    """Read ``longRunningCommandResult``: one id and the JSON text of its result."""
    for command_id, text in _pairs(value):
        try:
            result = json.loads(text)
        except ValueError:
            result = text
        if command_id:
            yield CommandNews(command_id, result=result)


def read_legacy(
    statuses: Sequence[str], progresses: Sequence[str], result: Sequence[str]
) -> Iterator[CommandNews]:
    """Read the three attributes of version 1 as they stood at the same time.

    Only of the command that has ended last they tell the result.

    Examples
    --------
    >>> tables = ("1_2_On", "COMPLETED"), (), ("3_4_Off", '[0, "done"]')
    >>> [news.result_gone for news in read_legacy(*tables)]
    [False, True]
    """
    results = list(read_legacy_result(result))
    known = {news.command_id for news in results}
    yield from results
    yield from read_legacy_progress(progresses)
    for news in read_legacy_status(statuses):
        gone = news.status is TaskStatus.COMPLETED and bool(known - {news.command_id})
        yield replace(news, result_gone=gone)


Reader = Callable[[Sequence[str]], Iterator[CommandNews]]


def _pairs(value: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(value[::2], value[1::2], strict=False)


def _object(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value < math.inf else 0.0


def _status(value: object) -> TaskStatus | None:
    try:
        if isinstance(value, str):
            return TaskStatus[value]
        if isinstance(value, int) and not isinstance(value, bool):
            return TaskStatus(value)
    except (KeyError, ValueError):
        pass
    return None
