"""Commands at a device whose ids are not known."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from milonga.lrc._traces import Trace, find_traces, tells_all_since

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TABLES = {"lrcQueue", "lrcExecuting", "lrcFinished"}


class Device:
    """Answers with what it was given."""

    def __init__(self, **attributes: Any) -> None:
        self._values = attributes

    def read_attributes(self, names: list[str]) -> list[SimpleNamespace]:
        """Return values."""
        return [SimpleNamespace(value=self._values.get(name)) for name in names]

    def read_attribute(self, name: str) -> SimpleNamespace:
        """Return a value."""
        return SimpleNamespace(value=self._values.get(name))


def entry(uid: str, after: float, pid: int | None = None) -> str:
    """Return an entry of a table."""
    content: dict[str, Any] = {
        "uid": uid,
        "submitted_time": (NOON + timedelta(seconds=after)).isoformat(),
    }
    if pid is not None:
        content["client"] = {"host": "127.0.0.1", "pid": pid}
    return json.dumps(content)


def test_a_command_is_found_by_name_time_and_caller() -> None:
    """A-17: of all that the tables show, only what this server can have sent."""
    device = Device(
        lrcQueue=[entry("1_1_On", 1.0)],
        lrcExecuting=[entry("1_2_On", 1.0, pid=7), entry("1_3_On", 1.0, pid=8), "no JSON", "[]"],
        lrcFinished=[entry("1_4_Off", 1.0), entry("1_5_On", -60.0), entry("1_6_On", 2.0, pid=7)],
    )

    found = find_traces(device, TABLES, Trace("On", NOON, pid=7))  # type: ignore[arg-type]

    assert list(found) == ["1_1_On", "1_2_On", "1_6_On"]


def test_the_first_version_of_the_protocol_tells_ids() -> None:
    """A-17: an id has the time and the name of its command."""
    seconds = NOON.timestamp()
    ids = [f"{seconds + 1}_5_On", f"{seconds - 60}_5_On", f"{seconds + 1}_5_Off", "", "odd_1_On"]
    device = Device(longRunningCommandIDsInQueue=ids)

    found = find_traces(
        device,  # type: ignore[arg-type]
        {"longRunningCommandIDsInQueue"},
        Trace("On", NOON),
    )

    assert list(found) == ids[:1]


def test_a_device_without_tables_shows_nothing() -> None:
    """A-17: then nobody can know."""
    assert not find_traces(Device(), {"State"}, Trace("On", NOON))  # type: ignore[arg-type]


def test_only_a_device_that_was_there_all_the_time_can_say_that_it_got_nothing() -> None:
    """A-17: a restarted device has forgotten; of other makes of device it is not known."""
    before, after = (Device(startedAt=(NOON + timedelta(seconds=s)).isoformat()) for s in (-5, 5))

    assert tells_all_since(before, {"startedAt"}, NOON)  # type: ignore[arg-type]
    assert not tells_all_since(after, {"startedAt"}, NOON)  # type: ignore[arg-type]
    assert not tells_all_since(before, set(), NOON)  # type: ignore[arg-type]
    assert not tells_all_since(Device(startedAt="?"), {"startedAt"}, NOON)  # type: ignore[arg-type]
