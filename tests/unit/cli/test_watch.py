"""Watching a device tells each step of a command once."""

import pytest

pytest.importorskip("tango")

from milonga.cli._looking import CommandTables, full_trl
from milonga.cli._watch import Watcher, line_of
from milonga.errors import ArgumentError


def tables(queued: str = "", executing: str = "", finished: str = "") -> CommandTables:
    """Make tables of commands with one-letter ids."""
    return CommandTables(
        *(tuple({"uid": u, "name": u} for u in ids) for ids in (queued, executing, finished))
    )


def told(watcher: Watcher, seen: CommandTables) -> list[str]:
    """Look once."""
    return [f"{event['event']} {event['uid']}" for event in watcher.news(seen)]


def test_each_step_is_told_once() -> None:
    """Looking twice at the same is no news."""
    watcher = Watcher()

    assert told(watcher, tables(queued="a")) == ["queued a"]
    assert told(watcher, tables(executing="a")) == ["started a"]
    assert told(watcher, tables(executing="a", queued="b")) == ["queued b"]
    assert told(watcher, tables(finished="a", executing="b")) == ["ended a", "started b"]
    assert told(watcher, tables(finished="ab")) == ["ended b"]


def test_what_ended_before_is_no_news() -> None:
    """But what runs when the watching begins is."""
    assert told(Watcher(), tables(finished="abc", executing="d")) == ["started d"]


def test_a_command_between_two_looks_is_not_missed() -> None:
    """A fast command is only ever seen ended."""
    watcher = Watcher()
    told(watcher, tables())

    assert told(watcher, tables(finished="a")) == ["ended a"]


def test_nothing_goes_backwards() -> None:
    """Tables are read one after the other: a command may be seen in two of them, or in none."""
    watcher = Watcher()
    told(watcher, tables())

    assert told(watcher, tables(finished="a", executing="a", queued="a")) == ["ended a"]
    assert told(watcher, tables()) == []
    assert told(watcher, tables(finished="a")) == []


def test_a_line_says_what_came_of_it() -> None:
    """The result is shown as the device sent it."""
    event = {
        "event": "ended", "uid": "1_2_On", "name": "On", "status": "COMPLETED",
        "result": [0, "done"], "finished_time": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip

    assert line_of(event).split("  ")[3:] == ["On", "COMPLETED", '[0, "done"]', "1_2_On"]


@pytest.mark.parametrize(
    ("trl", "host", "expected"),
    [
        ("a/b/c", "db:10000", "tango://db:10000/a/b/c"),
        ("alias", "db:10000", "tango://db:10000/alias"),
        ("tango://x:1/a/b/c", "db:10000", "tango://x:1/a/b/c"),
        ("tango://x:1/a/b/c#dbase=no", None, "tango://x:1/a/b/c#dbase=no"),
    ],
)
def test_addresses_are_made_whole(trl: str, host: str | None, expected: str) -> None:
    """So that no process-wide TANGO_HOST decides which device is meant."""
    assert full_trl(trl, host) == expected


@pytest.mark.parametrize("trl", ["", "a/b", "a/b/c/d", "a//c", "tango://x/a/b/c", "a b/c/d"])
def test_what_is_no_address_is_refused(trl: str) -> None:
    """Before anything is asked of the network."""
    with pytest.raises(ArgumentError, match="expected domain/family/member"):
        full_trl(trl, "db:10000")
