"""The tables of new, older and newer stores."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from milonga.errors import StoreVersionError
from milonga.records import (
    ProcessingTask,
    RecordStore,
    StoreSettings,
    latest_version,
    read_analysis,
)
from milonga.records._engine import Synchronous, as_url, make_engine
from milonga.records._migrate import current_version, known_versions, migrate
from milonga.records._tables import Base


def older_store(
    url: str, version: str = "0001", data: str = "{}", more: Sequence[str] = ()
) -> None:
    """Make a store as an earlier release had it, with a task."""
    engine = make_engine(as_url(url), synchronous=Synchronous.NORMAL, busy_timeout=5.0)
    migrate(engine, version)
    insert = (
        "INSERT INTO processing_task (task_name, parameters, uid, data, started_at, multi_step,"
        " current_step, progress_start, progress_target, progress_unit, kind, position, attempt,"
        " phase, message, error, recorded_late, schema_version, version) VALUES ('On', '', 'old',"
        " :data, '2030-01-01 00:00:00', false, -1, 0, 100, '%', 'command', 0, 1, 'QUEUED', '', '',"
        " false, 1, 1)"
    )
    with engine.begin() as connection:
        connection.execute(text(insert), {"data": data})
        for statement in more:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_the_migrations_make_the_tables_of_the_models(store: RecordStore) -> None:
    """LD-08: what alembic would generate now is nothing."""
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
    assert current_version(store.engine) == latest_version() == known_versions()[0]


def test_an_older_store_is_migrated_when_it_is_opened(databases: Any) -> None:
    """LD-08: its records are still there."""
    url = databases.empty()
    older_store(url)

    with RecordStore(url) as store, store.reading():
        task = ProcessingTask.get_by_uid("old")
        assert task is not None
        assert task.task_name == "On"
        assert current_version(store.engine) == latest_version()


def test_secrets_that_an_earlier_release_wrote_down_are_removed(databases: Any) -> None:
    """LD-05: of tasks and of settings, which may become equal by it."""
    url = databases.empty()
    environment = {"MILONGA_WEBHOOK_SECRET": "geheim", "LANG": "C"}
    shown = {"MILONGA_WEBHOOK_SECRET": "(not recorded)", "LANG": "C"}
    settings = [
        f"INSERT INTO analysis_setting (id, sha256, environment, poll_interval, communicators)"  # noqa: S608
        f" VALUES ({number}, '{number}', '{json.dumps(env)}', 0.05, '[]')"
        for number, env in enumerate((environment, environment | {"MILONGA_WEBHOOK_SECRET": "x"}))
    ]
    header = "INSERT INTO analysis_header (id, sha256, content) VALUES (1, 'h', '{}')"
    analyses = [
        f"INSERT INTO analysis (task_name, run, task_status, valid, summary, payload, header_id,"  # noqa: S608
        f" setting_id, parameters_type, created_at, format_version) VALUES ('peaks', '1',"
        f" 'COMPLETED', true, '\"\"', '1', 1, {number}, 'dict', '2030-01-01 00:00:00', 1)"
        for number in range(2)
    ]
    data = json.dumps({"transaction_id": "t", "analysis": {"version": 1, "task_env": environment}})
    older_store(url, "0002", data, [*settings, header, *analyses])

    with RecordStore(url) as store, store.reading() as session:
        task = ProcessingTask.get_by_uid("old")
        assert task is not None
        assert task.data == {
            "transaction_id": "t",
            "analysis": {"version": 1, "task_env": shown},
        }
        (setting,) = session.execute(text("SELECT id FROM analysis_setting")).scalars()
        of_analyses = session.execute(text("SELECT setting_id FROM analysis")).scalars()
        assert [*of_analyses] == [setting, setting]
        analysis = read_analysis(store, 1)
        assert analysis is not None
        assert analysis.task_env == shown
    path = url.removeprefix("sqlite:///")
    if path != url:
        assert b"geheim" not in Path(path).read_bytes()


def test_an_older_store_can_be_refused_with_the_command_that_migrates_it(
    databases: Any,
) -> None:
    """LD-08: the command in the text works."""
    url = databases.empty()
    older_store(url)
    with pytest.raises(StoreVersionError, match="Migrate it with: python -m") as refusal:
        RecordStore(url, StoreSettings(migrate=False))

    command = str(refusal.value).split("Migrate it with: ")[1].split()
    done = subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)

    assert done.stdout.decode().startswith(latest_version())
    RecordStore(url, StoreSettings(migrate=False)).close()


def test_a_newer_store_is_refused(url: str) -> None:
    """LD-08: this release does not know its tables."""
    engine = create_engine(as_url(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(StoreVersionError, match="version 9999, which a later release made"):
        RecordStore(url)


def test_several_servers_may_open_a_new_store_at_once(databases: Any) -> None:
    """One of them makes the tables, the others wait."""
    url = databases.empty()
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            RecordStore(url, StoreSettings(busy_timeout=30)).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


@pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
def test_a_commit_in_sqlite_is_as_safe_as_the_settings_say(
    tmp_path_factory: pytest.TempPathFactory, synchronous: str, level: int
) -> None:
    """Decision 7: WAL, with NORMAL by default."""
    path = tmp_path_factory.mktemp("store") / "records.db"
    settings = StoreSettings(synchronous=Synchronous(synchronous))
    with RecordStore(path, settings) as store, store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == level
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
