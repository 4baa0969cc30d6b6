"""What a device has to know when it is back, and rows that may wait for others."""

from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from milonga.control_model import ResultCode
from milonga.records import (
    Durability,
    NewTask,
    PluginState,
    Recorder,
    RecorderSettings,
    RecordStore,
    Situation,
    StoreSettings,
    find_finished,
    find_states,
    find_unfinished,
)

OF_DEVICE = {"device": "a/b/c", "command": "On"}


def test_an_unfinished_command_comes_with_what_is_known_of_its_nodes(store: RecordStore) -> None:
    """A-17: begun or not, with the ids of children, and the outcomes that came meanwhile."""
    with Recorder(store, "srv/1") as recorder:
        recorder.open(NewTask(uid="c1", task_name="On", parameters="{}", **OF_DEVICE))
        for name in ("one", "two", "three"):
            recorder.open(NewTask(uid=f"c1/{name}", task_name=name, parent_uid="c1", device="x"))
        recorder.change("c1", situation=Situation.RUNNING)
        recorder.change("c1/one", situation=Situation.RUNNING, command_id="17_1_On")
        recorder.finish("c1/two", Situation.FAILED, "no power", result_code=ResultCode.FAILED)
        recorder.open(NewTask(uid="c2", task_name="On", **OF_DEVICE))
        recorder.open(NewTask(uid="c3", task_name="On", device="another/device/1", command="On"))
        recorder.open(NewTask(uid="c4", task_name="On", **OF_DEVICE))
        recorder.finish("c4", Situation.DONE, "fine")

    first, second = find_unfinished(store, "a/b/c")

    assert (first.uid, first.command, first.argument, first.has_begun) == ("c1", "On", "{}", True)
    assert (second.uid, second.argument, second.has_begun) == ("c2", None, False)
    one, two, three = (first.nodes[f"c1/{name}"] for name in ("one", "two", "three"))
    assert (one.command_id, one.has_begun, one.situation) == ("17_1_On", True, Situation.RUNNING)
    assert (two.situation, two.result_code, two.message) == (
        Situation.FAILED,
        ResultCode.FAILED,
        "no power",
    )
    assert (three.has_begun, three.command_id) == (False, None)


def test_the_last_commands_that_ended_are_found_oldest_first(store: RecordStore) -> None:
    """A-17: so that their results are not forgotten."""
    with Recorder(store, "srv/1") as recorder:
        for number in range(5):
            recorder.open(NewTask(uid=f"c{number}", task_name="On", **OF_DEVICE))
            recorder.finish(f"c{number}", Situation.DONE, f"number {number}")
        recorder.open(NewTask(uid="open", task_name="On", **OF_DEVICE))

    found = find_finished(store, "a/b/c", 3)

    assert [(command.uid, command.message) for command in found] == [
        ("c2", "number 2"),
        ("c3", "number 3"),
        ("c4", "number 4"),
    ]
    assert found[0].result_code is ResultCode.OK


def test_a_server_may_keep_open_what_its_earlier_self_had_begun(store: RecordStore) -> None:
    """A-17: for whoever can find out what became of it; else it is LOST (QE-10)."""
    with Recorder(store, "srv/1") as recorder:
        recorder.open(NewTask(uid="c1", task_name="On", **OF_DEVICE))
    with Recorder(store, "srv/1", RecorderSettings(keep_open=True)) as recorder:
        assert recorder.flush(10)
        assert [command.uid for command in find_unfinished(store, "a/b/c")] == ["c1"]
    with Recorder(store, "srv/1") as recorder:
        assert recorder.flush(10)
        assert find_unfinished(store, "a/b/c") == []


def test_a_device_keeps_values(store: RecordStore) -> None:
    """QX-01: by way of the recorder, so that nobody waits; None forgets one."""
    with Recorder(store, "srv/1") as recorder:
        recorder.keep("a/b/c", obsState={"state": "IDLE"}, assigned=[1, 2])
        recorder.keep("a/b/c", obsState={"state": "READY"})
        recorder.keep("a/b/d", obsState={"state": "EMPTY"})
        assert recorder.flush(10)
        recorder.keep("a/b/c", assigned=None, never=None)

    with store.reading() as session:
        assert find_states(session, "a/b/c") == {"obsState": {"state": "READY"}}
        assert PluginState.get_value("a/b/d", "obsState") == {"state": "EMPTY"}


def test_rows_that_nobody_waits_for_are_written_with_those_that_somebody_waits_for(
    store: RecordStore,
) -> None:
    """IN-02: a command makes two transactions, however many nodes its tree has."""
    with Recorder(store, "srv/1", RecorderSettings(linger=30.0)) as recorder:
        assert recorder.flush(10)
        before = recorder.statistics().commits
        opened = recorder.open(NewTask(uid="c1", task_name="On"))
        for number in range(20):
            recorder.open(NewTask(uid=f"c1/{number}", task_name=str(number), parent_uid="c1"))
            recorder.finish(f"c1/{number}", Situation.DONE)
        assert not opened.done()

        told: list[Durability] = []
        recorder.finish("c1", Situation.DONE, then=told.append).result(10)

        assert told == [Durability.DURABLE]
        assert opened.done()
        assert recorder.statistics().commits <= before + 2


def test_rows_that_nobody_waits_for_are_written_soon(store: RecordStore) -> None:
    """IN-02: they may wait for others, not for ever."""
    with Recorder(store, "srv/1", RecorderSettings(linger=0.01)) as recorder:
        assert recorder.open(NewTask(uid="c1", task_name="On")).result(10) is Durability.DURABLE


def test_a_store_may_be_away_when_a_server_starts(tmp_path: Path) -> None:
    """IN-01: rows wait, and are written when the database is there."""
    folder = tmp_path / "not there yet"
    with RecordStore(folder / "records.db", StoreSettings(may_be_away=True)) as store:
        with Recorder(store, "srv/1", RecorderSettings(retry_longest=0.1)) as recorder:
            opened = recorder.open(NewTask(uid="c1", task_name="On", **OF_DEVICE))
            assert opened.result(10) is Durability.BUFFERED
            assert recorder.is_away

            folder.mkdir()

            assert recorder.flush(10) or recorder.flush(10)
        assert [command.uid for command in find_unfinished(store, "a/b/c")] == ["c1"]


def test_a_store_that_has_to_be_there_is_looked_for_at_once(tmp_path: Path) -> None:
    """IN-01: which is what a program that reads records wants."""
    with pytest.raises(OperationalError):
        RecordStore(tmp_path / "not there" / "records.db")
