"""Databases that are really away, or really busy."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from milonga.records import (
    Durability,
    NewTask,
    ProcessingTask,
    Recorder,
    RecorderSettings,
    RecordStatus,
    RecordStore,
    Situation,
    StoreSettings,
)

SOON = 30.0
QUICK = RecorderSettings(retry_first=0.02, retry_longest=0.1)


def status_of(store: RecordStore, uid: str) -> tuple[RecordStatus, bool]:
    """Return how a task stands, and whether its record came late."""
    with store.reading():
        task = ProcessingTask.get_by_uid(uid)
    assert task is not None
    return task.status, task.recorded_late


@pytest.mark.usefixtures("postgresql")
def test_a_server_that_stops_and_comes_back_loses_nothing(
    new_server: Callable[[], contextlib.AbstractContextManager[Any]],
) -> None:
    """IN-01: PostgreSQL is stopped in the middle; no call takes long, no record is missing."""
    with (
        new_server() as server,
        RecordStore(server.url(), StoreSettings(busy_timeout=1.0)) as store,
        Recorder(store, "srv/1", QUICK) as recorder,
    ):
        recorder.open(NewTask(uid="c1", task_name="On"))
        assert recorder.flush(SOON)
        server.stop()
        ended = recorder.finish("c1", Situation.DONE)
        assert ended.result(SOON) is Durability.BUFFERED
        opened = recorder.open(NewTask(uid="c2", task_name="Off"))
        assert opened.result(SOON) is Durability.BUFFERED
        server.restart()

        assert recorder.flush(SOON)
        assert status_of(store, "c1") == (RecordStatus.SUCCESS, True)
        assert status_of(store, "c2") == (RecordStatus.PENDING, True)


def test_another_process_that_holds_the_lock_is_an_outage(tmp_path: Path) -> None:
    """IN-01: SQLite says that it is locked; the rows wait until it is not."""
    path = tmp_path / "records.db"
    with (
        RecordStore(path, StoreSettings(busy_timeout=0.02)) as store,
        RecordStore(path) as other,
        Recorder(store, "srv/1", QUICK) as recorder,
    ):
        assert recorder.flush(SOON)
        with other.writing() as transaction:
            transaction.connection.execute(text("UPDATE record_owner SET incarnation = 'x'"))
            opened = recorder.open(NewTask(uid="c1", task_name="On"))
            assert opened.result(SOON) is Durability.BUFFERED

        assert recorder.flush(SOON)
        assert status_of(store, "c1") == (RecordStatus.PENDING, True)


def test_a_store_that_hangs_is_an_outage(open_store: Callable[..., RecordStore]) -> None:
    """IN-01: a transaction that takes too long is noticed while it goes on, and by everybody."""
    bounds = RecorderSettings(hangs_after=2.0)
    store, other = open_store(busy_timeout=60.0), open_store(busy_timeout=60.0)
    with Recorder(store, "srv/1", bounds) as recorder:
        assert recorder.flush(SOON)
        with other.writing() as transaction:
            if other.url.get_backend_name() == "postgresql":
                transaction.connection.execute(text("LOCK TABLE processing_task"))
            first = recorder.open(NewTask(uid="c1", task_name="On"))
            deadline = time.monotonic() + SOON
            while not recorder.is_away and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not first.done()
            second = recorder.open(NewTask(uid="c2", task_name="On"))
            assert first.result(SOON) is Durability.BUFFERED
            assert second.result(0.0) is Durability.BUFFERED
            assert recorder.statistics().outages == 1

        assert recorder.flush(SOON)
        assert not recorder.is_away
        assert status_of(store, "c2") == (RecordStatus.PENDING, True)


@pytest.mark.usefixtures("postgresql")
def test_a_connection_to_postgresql_does_not_wait_for_ever(
    new_server: Callable[[], contextlib.AbstractContextManager[Any]],
) -> None:
    """IN-01: for a statement, for a network, or for a transaction that nobody ends."""
    with (
        new_server() as server,
        RecordStore(f"{server.url()}?keepalives_idle=7") as store,
        store.engine.connect() as connection,
    ):
        names = "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"
        shown = [connection.execute(text(f"SHOW {name}")).scalar() for name in names]
        driver: Any = connection.connection.driver_connection
        parameters = driver.info.get_parameters()

    assert shown == ["1min", "5s", "10min"]
    assert (parameters["tcp_user_timeout"], parameters["keepalives_count"]) == ("20000", "3")
    assert parameters["keepalives_idle"] == "7", "what the URL says goes first"


def test_memory_is_bounded_in_bytes_as_well(tmp_path: Path) -> None:
    """IN-01: long texts fill the buffer sooner."""
    path = tmp_path / "records.db"
    bounds = RecorderSettings(max_bytes=100_000, retry_first=0.02, retry_longest=0.1)
    with (
        RecordStore(path, StoreSettings(busy_timeout=0.02)) as store,
        RecordStore(path) as other,
        Recorder(store, "srv/1", bounds) as recorder,
    ):
        assert recorder.flush(SOON)
        with other.writing() as transaction:
            transaction.connection.execute(text("UPDATE record_owner SET incarnation = 'x'"))
            outcomes = [
                recorder.open(NewTask(uid=f"c{n}", task_name="On", parameters="x" * 30_000)).result(
                    SOON
                )
                for n in range(5)
            ]

        assert outcomes == [Durability.BUFFERED] * 3 + [Durability.LOST] * 2
        assert recorder.flush(SOON)
        assert recorder._writer._bytes == 0


def test_many_threads_hand_over_at_once(store: RecordStore, recorder: Recorder) -> None:
    """IN-02: any thread may; nothing is lost or doubled."""

    def work(name: int) -> None:
        for number in range(50):
            uid = f"c{name}-{number}"
            recorder.open(NewTask(uid=uid, task_name="On"))
            recorder.log(uid, "line")
            recorder.finish(uid, Situation.DONE)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(SOON)

    statistics = recorder.statistics()
    assert (statistics.written, statistics.lost, statistics.doubled) == (1200, 0, 0)
    with store.reading() as session:
        done = text("SELECT count(*) FROM processing_task WHERE task_status = 'SUCCESS'")
        assert session.scalar(done) == 400
