"""Find, explain, export and drop records."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from milonga.errors import ArgumentError
from milonga.records import (
    ProcessingTask,
    RecordStore,
    Situation,
    TaskFilter,
    TaskRun,
    count_tasks,
    find_page,
)

Tell = Callable[..., None]


def uids(store: RecordStore, **wanted: Any) -> list[str]:
    """Return the names of the tasks on a page."""
    with store.reading() as session:
        return [task.uid for task in find_page(session, TaskFilter(**wanted)).tasks]


def test_records_are_found_by_what_is_known_of_them(
    timed: RecordStore, tell: Tell, clock: Any
) -> None:
    """QA-08, C-21: time, device, command, status, user, run; newest first."""
    noon = clock.now
    tell("c1", device="a/b/1", command="On", issuer="ann")
    tell("c2", device="a/b/2", command="On", issuer="bob")
    tell("c3", device="a/b/2", command="Scan", issuer="bob")
    tell("c3/leaf", device="a/b/9", command="Scan")
    tell("c1", Situation.DONE)
    tell("c2", Situation.ABORTED, "by bob")
    with timed.session() as session:
        scan = ProcessingTask.get_by_uid("c3")
        assert scan is not None
        scan.runs.append(TaskRun("run-7"))
        session.commit()

    assert uids(timed) == ["c3", "c2", "c1"]
    assert uids(timed, roots_only=False) == ["c3/leaf", "c3", "c2", "c1"]
    assert uids(timed, device="a/b/2") == ["c3", "c2"]
    assert uids(timed, command="On", issuer="bob") == ["c2"]
    assert uids(timed, status="PENDING") == ["c3"]
    assert uids(timed, status="FAILURE") == uids(timed, status="error") == ["c2"]
    assert uids(timed, status="aborted") == ["c2"]
    assert uids(timed, status="REJECTED") == []
    assert uids(timed, run_uid="run-7") == ["c3"]
    assert uids(timed, parent_uid="c3") == ["c3/leaf"]
    second = timedelta(seconds=1)
    assert uids(timed, started_after=noon + 2 * second) == ["c3", "c2"]
    assert uids(timed, started_before=noon + 2 * second) == ["c1"]


def test_a_filter_says_what_is_wrong_with_it() -> None:
    """QA-08: field, value, and what was expected."""
    with pytest.raises(ValidationError, match="found 'done', expected one of PENDING"):
        TaskFilter(status="done")
    with pytest.raises(ValidationError, match="timezone"):
        TaskFilter.model_validate({"startedAfter": "2030-01-01T00:00:00"})
    with pytest.raises(ValidationError, match="limit"):
        TaskFilter(limit=100_000)


def test_pages_show_each_record_once(timed: RecordStore, clock: Any) -> None:
    """QA-08: also when records begin at the same time, and new ones come in between."""
    with timed.session() as session:
        session.add_all(
            ProcessingTask("t", uid=f"c{n:02}", started_at=clock.now) for n in range(25)
        )
        session.commit()
    seen: list[str] = []
    cursor = None
    with timed.reading() as session:
        while True:
            page = find_page(session, TaskFilter(limit=10, cursor=cursor))
            seen += [task.uid for task in page.tasks]
            cursor = page.next
            if cursor is None:
                break

        assert seen == sorted(seen, reverse=True)
        assert len(seen) == count_tasks(session, TaskFilter()) == 25
        with pytest.raises(ArgumentError, match="cursor: found 'nonsense'"):
            find_page(session, TaskFilter(cursor="nonsense"))


FILL = """
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count - 1)
INSERT INTO processing_task (
  task_name, parameters, uid, data, started_at, finished_at, multi_step, current_step,
  progress_start, progress_target, progress_unit, task_status, kind, position, device, command,
  attempt, phase, message, error, issuer, recorded_late, schema_version, version)
SELECT 'Configure', '', 'many-' || n, '{}', :first, :first, false, -1, 0, 100, '%',
  CASE WHEN n % 1000 = 0 THEN 'LOST' WHEN n % 3 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END,
  'command', 0, 'a/b/' || (n % 100), CASE n % 3 WHEN 0 THEN 'On' WHEN 1 THEN 'Off' ELSE 'Scan' END,
  1, 'FINISHED', '', '', 'user' || (n % 10), false, 1, 1 FROM numbers
"""


def fill(store: RecordStore, count: int, clock: Any) -> None:
    """Make many records, in the database itself, with times that are a second apart."""
    later = {
        "sqlite": "datetime(:first, '+' || {} || ' seconds') || '.000000'",
        "postgresql": "CAST(:first AS timestamptz) + {} * interval '1 second'",
    }[store.url.get_backend_name()]
    statement = FILL.replace(":first, :first", f"{later.format('n')}, {later.format('(n + 1)')}")
    first = clock.now.replace(tzinfo=None) if "datetime(" in later else clock.now
    values = {"count": count, "first": str(first)}
    with store.writing() as transaction:
        transaction.connection.execute(text(statement), values)


def test_a_device_is_found_however_its_name_is_written(timed: RecordStore, tell: Tell) -> None:
    """Tango does not tell capital from small letters, and gives names as they were written."""
    tell("c1", device="Lab/a/1", command="On")
    tell("c2", device="lab/A/1", command="On")
    tell("c3", device="lab/a/10", command="On")
    tell("c4", command="On")

    assert uids(timed, device="lab/a/1") == uids(timed, device="LAB/A/1") == ["c2", "c1"]
    assert uids(timed, device="LAB/a/10") == ["c3"]
    assert uids(timed, device="lab/a/%") == uids(timed, device="lab/a/2") == []
    with timed.reading() as session:
        assert count_tasks(session, TaskFilter(device="lab/a/1")) == 2


def test_a_page_of_a_hundred_thousand_records_is_there_at_once(
    timed: RecordStore, clock: Any
) -> None:
    """Budget: < 200 ms, whatever is filtered; measured as the best of five."""
    fill(timed, 100_000, clock)
    slow: dict[str, float] = {}
    wishes: list[dict[str, Any]] = [
        {},
        {"device": "a/b/7"},
        {"device": "A/b/7"},
        {"status": "LOST"},
        {"command": "Scan", "issuer": "user3"},
        {"status": "PENDING"},
        {"device": "a/b/7", "status": "LOST"},
        {"run_uid": "never"},
        {"started_before": clock.now + timedelta(seconds=50_000)},
    ]
    with timed.reading() as session:
        for wanted in wishes:
            times = []
            for _ in range(5):
                began = time.perf_counter()
                find_page(session, TaskFilter(**wanted))
                times.append(time.perf_counter() - began)
                session.expunge_all()
            slow[str(wanted)] = min(times)

    assert max(slow.values()) < 0.2, slow


# Explain
