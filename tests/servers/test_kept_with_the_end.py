"""What a command has changed is on disk with its outcome, whenever the process may be killed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tango
from sqlalchemy import select

from milonga.deploy import System, Topology
from milonga.records import ProcessingTask, RecordStore, find_states

TOPOLOGY = """
name: kept
records: {store: "STORE"}
subarrays: [{device: kept/subarray/1, id: 1, server: one, children: [leaf]}]
leaves:
  - {name: leaf, device: kept/leaf/0, server: one, script: {"*": {duration: 0.05}}}
"""

COMMANDS = [
    ("AssignResources", '{"receptors": ["dish-1", "dish-2"]}', "IDLE", ["dish-1", "dish-2"]),
    ("ReleaseResources", '{"receptors": ["dish-1"]}', "IDLE", ["dish-2"]),
    ("Configure", "{}", "READY", ["dish-2"]),
    ("Abort", None, "ABORTED", ["dish-2"]),
    ("Restart", None, "EMPTY", []),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    """Have a place for records, and look at it from here as well."""
    with RecordStore(tmp_path / "records.db") as store:
        yield store


@pytest.fixture
def subarray(
    tmp_path: Path, store: RecordStore, wait_until: Callable[..., None]
) -> Iterator[tango.DeviceProxy]:
    """Run a subarray that is switched on."""
    text = TOPOLOGY.replace("STORE", str(tmp_path / "records.db"))
    with System(Topology.from_text(text)) as system:
        proxy = tango.DeviceProxy(system.trl("subarray-01"))
        wait_until(lambda: proxy.state() is tango.DevState.OFF)
        proxy.On()
        wait_until(lambda: proxy.state() is tango.DevState.ON)
        yield proxy


def test_no_outcome_is_on_disk_without_what_it_has_changed(
    store: RecordStore, subarray: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """IN-02: the first look at the disk that finds the end of a command finds its effect too."""
    for command, argument, leads_to, assigned in COMMANDS:
        given = () if argument is None else (argument,)
        _, (uid,) = subarray.command_inout(command, *given)
        kept: dict[str, Any] = {}

        def has_ended(uid: str = uid, kept: dict[str, Any] = kept) -> bool:
            with store.reading() as session:
                status = select(ProcessingTask.task_status).where(ProcessingTask.uid == uid)
                kept |= find_states(session, "kept/subarray/1")
                return session.scalar(status) == "SUCCESS"

        wait_until(has_ended)

        assert kept["obsState"]["state"] == leads_to, command
        assert kept.get("assigned", {"names": []})["names"] == assigned, command
        wait_until(lambda leads_to=leads_to: subarray.obsState.name == leads_to)
