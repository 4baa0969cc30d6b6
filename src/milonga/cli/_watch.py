"""`milonga watch`: a device's commands as they queue, run and end."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from milonga.cli._console import messages
from milonga.cli._exit import ExitCode
from milonga.cli._looking import HOLD_OFF, LOOK_EVERY, CommandTables, full_trl, read_tables
from milonga.cli._times import clock_time
from milonga.cli._tree_view import device_name
from milonga.errors import ArgumentError, ProtocolError, Unreachable

__all__ = ["Watcher", "line_of", "watch"]

# far more than a device keeps, and not only what it shows: a look that misses a command, as one
# across a restart may, must not make its end news again
_REMEMBERED = 2000


def watch(trl: str, *, as_json: bool, tango_host: str | None) -> ExitCode:
    """Write a line for each command that queues, starts or ends, until Ctrl-C.

    The tables are read rather than listened to: they keep the last hundred ended commands, so a
    look now and then misses nothing, and a device that restarts is simply looked at again.

    Parameters
    ----------
    trl : str
        The device.
    as_json : bool
        Whether each line is a JSON object.
    tango_host : str or None
        ``host:port`` of the database; None for TANGO_HOST.
    """
    address = full_trl(trl, tango_host)
    notes = messages()
    watcher = Watcher()
    tables = read_tables(address)
    if not as_json:
        notes.print(f"watching {address}; stop with Ctrl-C", soft_wrap=True)
    lost = False
    while True:
        for event in watcher.news(tables):
            sys.stdout.write((json.dumps(event) if as_json else line_of(event)) + "\n")
        sys.stdout.flush()
        time.sleep(HOLD_OFF if lost else LOOK_EVERY)
        try:
            tables = read_tables(address)
            if lost:
                notes.print(f"{device_name(trl)} answers again")
            lost = False
        except (Unreachable, ArgumentError, ProtocolError) as error:  # for now: it may be starting
            if not lost:
                notes.print(str(error), soft_wrap=True)
            lost = True


@dataclass
class Watcher:
    """Finds what is new in a device's tables of commands."""

    _seen: dict[str, int] = field(default_factory=dict)
    _first: bool = True

    def news(self, tables: CommandTables) -> Iterator[dict[str, Any]]:
        """Give an event for each step that a command has made since the last look.

        What had ended before the first look is no news.
        """
        stages = (
            ("ended", tables.finished),
            ("started", tables.executing),
            ("queued", tables.queued),
        )
        for rank, (event, records) in enumerate(stages):
            for record in records:
                uid = str(record.get("uid"))
                before = self._seen.pop(uid, len(stages))
                self._seen[uid] = min(rank, before)  # and is the newest again
                if rank < before and not (self._first and event == "ended"):
                    yield {"event": event, **record}
        self._first = False
        for uid in list(self._seen)[:-_REMEMBERED]:
            del self._seen[uid]


def line_of(event: dict[str, Any]) -> str:
    """Write an event as a line.

    Examples
    --------
    >>> line_of({"event": "queued", "uid": "1_2_On", "name": "On"})
    'queued                  On  1_2_On'
    """
    parts = [f"{event['event']:8}", _clock_time(event), str(event.get("name", "?"))]
    if event["event"] == "ended":
        parts += [str(event.get("status", "?")), *_result(event)]
    parts.append(str(event.get("uid", "")))
    return "  ".join([*parts])


def _clock_time(event: dict[str, Any]) -> str:
    stamp = event.get({"ended": "finished_time", "started": "started_time"}.get(event["event"], ""))
    return clock_time(stamp or event.get("submitted_time"))


def _result(event: dict[str, Any]) -> list[str]:
    result = event.get("result")
    if result is None:
        return []
    return [result if isinstance(result, str) else json.dumps(result)]
