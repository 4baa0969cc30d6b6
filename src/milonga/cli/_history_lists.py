"""`milonga tasks`, `milonga log` and `milonga explain`: records as lists for people or programs."""

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.text import Text

from milonga.cli._console import output
from milonga.cli._exit import ExitCode
from milonga.cli._history_source import MAX_NODES, Source
from milonga.cli._outcome import FILTERS, GOOD, outcome_of_record
from milonga.cli._times import clock_time, date_and_time, read_time
from milonga.errors import ArgumentError

__all__ = ["CSV_COLUMNS", "Wanted", "list_tasks", "moment", "show_explanation", "show_log"]

CSV_COLUMNS = (
    *("uid", "device", "command", "status", "cause", "resultCode", "message", "issuer"),
    *("startedAt", "runningAt", "finishedAt", "name", "kind", "commandId", "origin", "attempt"),
)

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PAGE = 1000
_STYLES = {
    "OK": "green",
    "STOPPED": "green",
    "PARTIAL": "yellow",
    "ABORTED": "yellow",
} | dict.fromkeys(("QUEUED", "IN_PROGRESS", "PAUSED"), "cyan")

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which records to list, in the words of the command line."""

    since: str | None = None
    until: str | None = None
    device: str | None = None
    command: str | None = None
    status: str | None = None
    user: str | None = None
    run: str | None = None
    limit: int | None = 20
    all_nodes: bool = False

    def filter(self, now: datetime) -> dict[str, Any]:
        """Return them as the filter of `QueryTasks`.

        Raises
        ------
        ArgumentError
            If a time is none.
        """
        wanted = {
            "device": self.device,
            "command": self.command,
            "status": self.status and FILTERS.get(self.status.upper(), self.status),
            "issuer": self.user,
            "runUid": self.run,
            "startedAfter": moment("--since", self.since, now),
            "startedBefore": moment("--until", self.until, now),
            "rootsOnly": not self.all_nodes,
        }
        return {key: value for key, value in wanted.items() if value is not None}


def moment(option: str, text: str | None, now: datetime) -> str | None:
    """Read a time: ISO 8601, local if it says no zone, or an age such as ``2h``.

    Raises
    ------
    ArgumentError
        If it is neither.

    Examples
    --------
    >>> moment("--since", "90m", datetime(2030, 1, 1, 12, tzinfo=UTC))
    '2030-01-01T10:30:00+00:00'
    """
    if text is None:
        return None
    age = _AGE.fullmatch(text)
    try:
        if age is not None:
            return (now - timedelta(seconds=float(age[1]) * _SECONDS[age[2]])).isoformat()
        return read_time(text).isoformat()
    except (ValueError, OverflowError):  # the latter if it is before the year 1
        raise ArgumentError(
            f"{option}: found {text!r}, expected a time such as 2030-01-31T12:00, or an age such"
            " as 90s, 30m, 2h, 3d"
        ) from None


def list_tasks(source: Source, wanted: Wanted, *, as_json: bool, as_csv: bool) -> ExitCode:
    """List records.

    Parameters
    ----------
    source : Source
        Has them.
    wanted : Wanted
        Which.
    as_json, as_csv : bool
        Whether to write JSON, or CSV.

    Raises
    ------
    ArgumentError
        If a filter cannot be understood.
    """
    if as_json and as_csv:
        raise ArgumentError("found both --json and --csv, expected one of them")
    found = _pages(source, wanted.filter(datetime.now(UTC)), wanted.limit)
    if as_json:
        sys.stdout.write(json.dumps([*found]) + "\n")
    elif as_csv:
        _write_csv(found)
    else:
        console = output()
        count = 0
        for record in found:
            count += 1
            _show(console, record)
        if not count:
            console.print("no such commands are recorded")
    return ExitCode.OK


def _write_csv(found: Iterator[Record]) -> None:
    """Write records as they come, as there may be more than fit into memory."""
    first = next(found, None)  # a wrong filter is to be told before the head is written
    writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    if first is not None:
        writer.writerow(first)
        writer.writerows(found)


def _pages(source: Source, wanted: dict[str, Any], limit: int | None) -> Iterator[Record]:
    cursor: str | None = None
    left: float = math.inf if limit is None else limit
    while left > 0:
        page = wanted | {"limit": min(left, _PAGE)} | ({"cursor": cursor} if cursor else {})
        answer = json.loads(source.list_tasks(json.dumps(page)))
        yield from answer["tasks"]
        left -= len(answer["tasks"])
        cursor = answer["next"]
        if cursor is None:
            return


def _show(console: Console, record: Record) -> None:
    """Write two lines: when, how long, how, who what; then the id and the message."""
    word = outcome_of_record(record)
    head = Text(f"{date_and_time(record['startedAt'])}  {_seconds(record):>8}  ")
    head.append(f"{word:<11}", _STYLES.get(word, "red"))
    head.append(f" {_call(record)}")
    console.print(head, soft_wrap=True)
    message = str(record.get("message") or "").strip().partition("\n")[0]
    issuer = f"  by {record['issuer']}" if record.get("issuer") else ""
    tail = Text(f"    {record['uid']}{issuer}", "dim")
    console.print(tail, soft_wrap=True)
    if message and word not in GOOD:
        console.print(Text(f"    {message}"), soft_wrap=True)


def _call(record: Record) -> str:
    device = str(record.get("device") or "")
    command = str(record.get("command") or record.get("name") or "")
    return f"{device} {command}".strip()


def _seconds(record: Record) -> str:
    began, ended = record.get("runningAt") or record.get("startedAt"), record.get("finishedAt")
    if not began or not ended:
        return "-"
    seconds = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
    return f"{seconds.total_seconds():.2f} s"


# The course of one command


def show_log(source: Source, task: str, *, all_lines: bool = False, as_json: bool) -> ExitCode:
    """Tell what happened in a task and all nodes below it, in order.

    Parameters
    ----------
    source : Source
        Has the records.
    task : str
        Id of the task.
    all_lines : bool, optional
        Whether to show all lines of a node's log, or the last ones.
    as_json : bool
        Whether to write JSON.

    Raises
    ------
    RecordNotFound
        If there is no such task.
    """
    events: list[Record] = []
    for record in _with_nodes(source, task):
        if all_lines:
            _complete(source, record)
        events += _events(record, task)
    events.sort(key=lambda event: (event["at"], event["order"]))
    if as_json:
        told = [{key: event[key] for key in ("at", "node", "level", "text")} for event in events]
        sys.stdout.write(json.dumps(told) + "\n")
        return ExitCode.OK
    console = output()
    for event in events:
        line = Text(f"{clock_time(event['at'], milliseconds=True)} ", "dim")
        line.append(f"{event['node']} " if event["node"] else "", "bold")
        line.append(str(event["text"]), "red" if event["level"] == "ERROR" else "")
        console.print(line, soft_wrap=True)
    return ExitCode.OK


def _with_nodes(source: Source, task: str) -> Iterator[Record]:
    """Yield a record and those below it."""
    waiting = [task]
    count = 0
    while waiting and count < MAX_NODES:
        uid = waiting.pop(0)
        count += 1
        yield json.loads(source.get_task(uid))
        below = _pages(source, {"parentUid": uid}, MAX_NODES)
        waiting += [str(record["uid"]) for record in below]


def _complete(source: Source, record: Record) -> None:
    """Add the earlier lines of a record's log."""
    pages = [record["entries"]]
    cursor = record.get("logCursor")
    while cursor is not None:
        answer = json.loads(source.get_log(json.dumps({"uid": record["uid"], "before": cursor})))
        pages.append(answer["entries"])
        cursor = answer["logCursor"]
    record["entries"] = [entry for page in reversed(pages) for entry in page]
    record["earlierEntries"] = 0


def _events(record: Record, task: str) -> Iterator[Record]:
    node = str(record["uid"]).removeprefix(task).removeprefix("/")

    def event(at: str, order: int, text: str, level: str = "INFO") -> Record:
        return {"at": at, "order": order, "node": node, "text": text, "level": level}

    who = f" by {record['issuer']}" if record.get("issuer") and not node else ""
    if not node:
        yield event(record["startedAt"], 0, f"accepted: {_call(record)}{who}")
    if record.get("runningAt"):
        call = f": {_call(record)}" if node else ""
        yield event(record["runningAt"], 1, f"began{call}")
    entries = record.get("entries", ())
    if record.get("earlierEntries"):
        text = f"… {record['earlierEntries']} earlier lines are left out; --all shows them"
        yield event(entries[0]["at"], 2, text)
    for entry in entries:
        yield event(entry["at"], 3, entry["text"], entry["level"])
    if record.get("finishedAt"):
        word = outcome_of_record(record)
        message = str(record.get("message") or "").strip()
        level = "INFO" if word in GOOD else "ERROR"
        text = f"{word}: {message}" if message else word
        yield event(record["finishedAt"], 4, text, level)


def show_explanation(source: Source, task: str, *, as_json: bool) -> ExitCode:
    """Say why a task failed, or what it waits for.

    Parameters
    ----------
    source : Source
        Has the records.
    task : str
        Id of the task.
    as_json : bool
        Whether to write JSON.

    Raises
    ------
    RecordNotFound
        If there is no such task.
    """
    text = source.explain(task)
    if as_json:
        sys.stdout.write(text + "\n")
        return ExitCode.OK
    console = output()
    first, *more = str(json.loads(text)["text"]).splitlines()
    console.print(Text(first, "bold"), soft_wrap=True)
    for line in more:
        console.print(Text(line), soft_wrap=True)
    return ExitCode.OK
