"""What the devices of a process share to keep records."""

import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from milonga.devices._record_service import acquire, release, store_address
from milonga.devices._record_settings import DEFAULT_MAX_BYTES, RecordSettings
from milonga.devices._record_upkeep import RecordUpkeep
from milonga.errors import RecordsError
from milonga.monitoring import Check, process_monitor
from milonga.records import (
    FileStore,
    NewTask,
    ProcessingTask,
    Recorder,
    RecordStore,
    Retention,
    Situation,
    Synchronous,
    find_unfinished,
)


def test_devices_of_a_process_share_a_store_and_the_last_closes_it(tmp_path: Path) -> None:
    """IN-02: one writer thread, however many devices there are."""
    address = str(tmp_path / "data" / "records.db")
    first, second = acquire(address, "srv/1"), acquire(address, "srv/1")
    assert first is second

    release(first)
    opened = second.recorder.open(NewTask(uid="c1", task_name="On", device="a/b/c"))
    release(second)

    assert opened.done()
    assert [one.name for one in threading.enumerate() if one.name == "milonga-records"] == []
    third = acquire(address, "srv/1")
    assert third is not first
    assert [command.uid for command in find_unfinished(third.store, "a/b/c")] == ["c1"]
    release(third)


def test_a_folder_that_cannot_be_made_is_a_store_that_is_away(tmp_path: Path) -> None:
    """IN-01: commands work all the same, and the probe tells."""
    (tmp_path / "file").write_text("in the way")
    service = acquire(str(tmp_path / "file" / "records.db"), "srv/1")
    try:
        service.recorder.open(NewTask(uid="c1", task_name="On")).result(10)
        deadline = time.monotonic() + 10
        while not (problems := process_monitor().problems(Check.READY)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        release(service)

    assert any("record store" in text and "does not answer" in text for text in problems)
    assert not process_monitor().problems(Check.READY)


def test_a_store_of_a_later_release_is_refused(tmp_path: Path) -> None:
    """A-17: with a text that says what to do, which a device shows in its Status."""
    path = tmp_path / "records.db"
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        store.execute("INSERT INTO alembic_version VALUES ('9999')")
    store.close()

    with pytest.raises(RecordsError, match="later release"):
        acquire(str(path), "srv/1")


def test_the_environment_says_how_records_are_kept() -> None:
    """QE-11: a bound on bytes is there also where nobody sets one, so that no disk fills."""
    usual = RecordSettings.from_environment({})
    assert usual.retention == Retention(max_bytes=DEFAULT_MAX_BYTES)
    assert (usual.is_durable, usual.of_store().synchronous) == (True, Synchronous.NORMAL)

    chosen = RecordSettings.from_environment(
        {
            "MILONGA_RECORDS_MAX_DAYS": "2",
            "MILONGA_RECORDS_MAX_COUNT": "7",
            "MILONGA_RECORDS_MAX_BYTES": "1e6",
            "MILONGA_RECORDS_SYNCHRONOUS": "FULL",
            "MILONGA_RECORDS_MAX_WAITING": "500",
            "MILONGA_RECORDS_DURABLE": "no",
            "MILONGA_WEBHOOK_SECRET": "geheim",
        }
    )
    assert chosen.retention == Retention(max_age=172_800.0, max_count=7, max_bytes=1_000_000)
    assert chosen.of_store().synchronous is Synchronous.FULL
    assert (chosen.of_recorder().max_buffered, chosen.of_recorder().max_passing) == (500, 250)
    assert not chosen.is_durable
    assert "geheim" not in repr(chosen)


@pytest.mark.parametrize("variable", ["MILONGA_RECORDS_SYNCHRONOUS", "MILONGA_RECORDS_DURABLE"])
def test_a_wrong_word_is_refused(variable: str) -> None:
    """QE-11: the text names the variable, what was found and what was expected."""
    with pytest.raises(RecordsError, match=f"{variable}: found 'perhaps', expected one of"):
        RecordSettings.from_environment({variable: "perhaps"})


def test_the_upkeep_of_a_store_ends_what_nobody_will_end(tmp_path: Path) -> None:
    """QE-10, QE-11, QF-05: old commands, lost ones, temporary files, and files of nobody."""
    folder = tmp_path / "files"
    with RecordStore(tmp_path / "records.db") as store, Recorder(store, "srv/1") as recorder:
        files = FileStore.local(store, folder)
        for uid, device in (("old", "a/b/c"), ("over", "a/b/d"), ("goes on", "a/b/d")):
            recorder.open(NewTask(uid=uid, task_name="On", device=device))
        assert recorder.flush(10)
        files.persist_task_temp_file("over", b"x", "scratch")
        files.persist_task_result("goes on", b"x", "kept", "text")
        recorder.finish("over", Situation.DONE)
        assert recorder.flush(10)
        (folder / "task_99").mkdir()
        (folder / "task_99" / "nobody's").write_text("x")
        upkeep = RecordUpkeep(store, files, folder, Retention(), "srv/1", lambda: ["a/b/d"])

        upkeep.look_after(settled=True)
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert names == {"kept", "nobody's", ".stores"}, "the folder may be another's as well"
        for path in folder.rglob("*"):
            os.utime(path, (0, 0))
        upkeep.look_after(settled=True)

        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert names == {"kept", ".stores"}
        with store.reading():
            old, goes_on = map(ProcessingTask.get_by_uid, ("old", "goes on"))
        assert old is not None
        assert goes_on is not None
        assert (old.status, goes_on.status) == ("LOST", "PENDING")
        assert "srv/1 has no such device any more" in old.message


def test_files_of_two_stores_in_one_folder_are_not_swept(tmp_path: Path) -> None:
    """QF-05: no store knows the files of the other."""
    folder = tmp_path / "files"
    with RecordStore(tmp_path / "a.db") as one, RecordStore(tmp_path / "b.db") as two:
        upkeeps = []
        for store in (one, two):
            with store.session():
                ProcessingTask("On").save(commit=True)
            files = FileStore.local(store, folder)
            files.persist_task_result(1, b"x", "kept", "text")
            upkeeps.append(RecordUpkeep(store, files, folder, Retention(), "srv/1", tuple))
        for upkeep in upkeeps:
            upkeep.look_after(settled=True)
        for path in folder.rglob("*"):
            os.utime(path, (0, 0))
        for upkeep in upkeeps:
            upkeep.look_after(settled=True)

    assert len([*folder.rglob("kept*")]) == 2


@pytest.mark.parametrize("text", ["many", "0", "-3"])
def test_a_wrong_bound_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """QE-11: the text names the variable, what was found and what was expected."""
    monkeypatch.setenv("MILONGA_RECORDS_MAX_DAYS", text)
    with pytest.raises(RecordsError, match=f"MILONGA_RECORDS_MAX_DAYS: found '{text}', expected"):
        acquire(str(tmp_path / "records.db"), "srv/1")


def test_the_store_is_where_somebody_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """QM-01: a property, or the environment, or the folder of all data."""
    for name in ("MILONGA_RECORDS", "MILONGA_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert store_address("") == "milonga-data/records.db"
    monkeypatch.setenv("MILONGA_DATA", "somewhere")
    assert store_address("") == "somewhere/records.db"
    monkeypatch.setenv("MILONGA_RECORDS", "postgresql://host/milonga")
    assert store_address("") == "postgresql://host/milonga"
    assert store_address("none") == "none"
