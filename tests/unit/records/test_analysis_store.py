"""Analyses in the store, as records, and in reports."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, text

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ArgumentError
from milonga.records import (
    ANALYSIS_MOVES,
    AnalysisStatus,
    DescribedAnalysis,
    FileReporter,
    FileStore,
    LogReporter,
    ProcessingTask,
    QueuedReporter,
    RecordStore,
    Report,
    TaskAttachments,
    TaskResult,
    analysis_from_record,
    analysis_to_record,
    export_lute,
    read_analysis,
    read_latest_parameter,
    record_analysis,
    result_from_tracker,
    start_task,
)
from milonga.records._analysis_model import AnalysisParameter
from milonga.tracking import TaskTracker

OVER = [one for one in AnalysisStatus if not ANALYSIS_MOVES[one]]
PENDING = TaskResult("peaks", AnalysisStatus.PENDING, "", None)


PENDING = TaskResult("peaks", AnalysisStatus.PENDING, "", None)


def analysis(run: str = "1", status: str = "COMPLETED", **parameters: Any) -> DescribedAnalysis:
    """Describe an analysis."""
    result = TaskResult("peaks", AnalysisStatus[status], {"n": 3}, [1, 2], "npz")
    given_parameters = {"header": {"run": run, "title": "t"}, **parameters}
    return DescribedAnalysis(
        result, given_parameters, {"LUTE_PORT": "1", "SECRET": "2"}, 0.1, ["s"]
    )


def test_the_newest_value_of_a_parameter_is_found(store: RecordStore) -> None:
    """LD-02, LD-07: of valid analyses, of a run, or of all."""
    record_analysis(store, analysis(threshold=1, deep={"a": [5, 6]}))
    record_analysis(store, analysis(threshold=2, run="2"))
    record_analysis(store, analysis(threshold=3, status="FAILED"))

    def latest(param: str, **options: Any) -> Any:
        return read_latest_parameter(store, "peaks", param, **options)

    assert latest("threshold") == 2
    assert latest("threshold", valid_only=False) == 3
    assert latest("threshold", for_run=1) == 1
    assert latest("threshold", valid_only=False, for_run=1) == 3
    assert latest("deep.a[1]") == 6
    assert latest("result.payload") == [1, 2]
    assert latest("result.task_status", valid_only=False) == "FAILED"
    assert latest("missing") is latest("result.missing") is None
    assert read_latest_parameter(store, "other", "threshold") is None


@pytest.mark.parametrize("value", ["it's", 'a"b', "run_A", "run%", "x;y", {"a": None}, b"\x00"])
def test_values_are_data_and_nothing_else(store: RecordStore, value: Any) -> None:
    """D-5, D-6: quotes and wildcards are taken as they are; nothing is lost."""
    record_analysis(store, analysis(name="runXA"))
    record_analysis(store, analysis(name=value))
    name = "name.a" if isinstance(value, dict) else "name"

    expected = value["a"] if isinstance(value, dict) else value
    assert read_latest_parameter(store, "peaks", name) == expected


def test_equal_headers_and_settings_are_stored_once(store: RecordStore) -> None:
    """LD-04, LD-05: by the hash of their content; secrets are not stored."""
    numbers = [record_analysis(store, analysis(threshold=n)) for n in range(3)]
    record_analysis(store, analysis(run="2"))

    with store.reading() as session:
        counts = [
            session.scalar(text(f"SELECT count(*) FROM analysis_{table}"))  # noqa: S608
            for table in ("header", "setting", "parameter")
        ]
    assert counts == [2, 1, 3]
    again = read_analysis(store, numbers[1])
    assert again is not None
    assert again.task_env == {"LUTE_PORT": "1", "SECRET": "(not recorded)"}
    assert again.parameters() == {"threshold": 1, "header": {"run": "1", "title": "t"}}
    assert again.task_result == analysis().task_result
    assert read_analysis(store, 999) is None


def test_an_analysis_that_never_began_is_not_recorded(store: RecordStore) -> None:
    """LD-06: it has no parameters."""
    with pytest.raises(ArgumentError, match="found no parameters"):
        record_analysis(store, DescribedAnalysis(PENDING))


def test_large_results_are_files_of_the_task(store: RecordStore, tmp_path: Path) -> None:
    """LU-07: and back."""
    number = start_task(store, "peaks")
    files = TaskAttachments(store, FileStore.local(store, tmp_path), number)
    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
    described = analysis(threshold=1)
    result = replace(described.task_result, payload=np.arange(5))
    described = replace(described, task_result=result)

    stored = record_analysis(store, described, uid=task.uid, files=files)

    again = read_analysis(store, stored, files)
    assert again is not None
    assert np.array_equal(again.task_result.payload, np.arange(5))
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(b"changed")
    with pytest.raises(KeyError, match="content has changed"):
        read_analysis(store, stored, files)


def test_the_newest_of_a_million_values_is_there_at_once(store: RecordStore) -> None:
    """LD-08, D-7: of 20 000 as soon as of a few, as it is one step into an index."""
    record_analysis(store, analysis(threshold=1))
    of_few = seconds_to_read(store, "threshold", 1)
    rows = [
        {
            "analysis_id": 1,
            "name": f"p{n}",
            "task_name": "peaks",
            "run": "1",
            "valid": n % 2 == 0,
            "value": n,
            "type": "int",
        }
        for n in range(20_000)
    ]
    with store.writing() as transaction:
        transaction.connection.execute(insert(AnalysisParameter), rows)
    if store.url.get_backend_name() == "postgresql":
        with store.writing() as transaction:
            transaction.connection.execute(text("ANALYZE analysis_parameter"))

    assert seconds_to_read(store, "p4242", 4242) < 5 * of_few


def seconds_to_read(store: RecordStore, parameter: str, value: int) -> float:
    """Return how long the reading of a value takes, on a machine that others use too."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        assert read_latest_parameter(store, "peaks", parameter) == value
        times.append(time.perf_counter() - began)
    return min(times)


def test_analyses_are_exported_to_the_tables_of_lute(store: RecordStore, tmp_path: Path) -> None:
    """LD-01, LD-08: a table for each task, a column for each parameter."""
    record_analysis(store, analysis(threshold=1, deep={"a": [5]}))
    record_analysis(store, analysis(status="FAILED", other="x"))
    path = tmp_path / "lute.db"

    assert export_lute(store, path) == 2

    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        first, second = file.execute("SELECT * FROM peaks ORDER BY id").fetchall()
        header = file.execute("SELECT * FROM gen_cfg").fetchone()
        setting = file.execute("SELECT * FROM exec_cfg").fetchone()
    assert (first["threshold"], first["deep.a[0]"], first["valid_flag"]) == (1, 5, 1)
    assert (second["other"], second["threshold"], second["valid_flag"]) == ("x", None, 0)
    assert second["result.task_status"] == "FAILED"
    assert header["run"] == "1"
    assert set(setting["env"].split(";")) == {"LUTE_PORT=1", "SECRET=(not recorded)"}
    with pytest.raises(FileExistsError):
        export_lute(store, path)


# Records and trackers


@pytest.mark.parametrize("status", list(AnalysisStatus))
def test_an_analysis_can_be_a_record(store: RecordStore, status: AnalysisStatus) -> None:
    """LU-08: there and back."""
    described = replace(
        analysis(threshold=1),
        task_result=replace(PENDING, task_status=status),
        task_env={"LANG": "C"},
    )
    with store.session():
        analysis_to_record(described).save(commit=True)

    with store.reading():
        task = ProcessingTask.get_by_id(1)
        assert task is not None
        assert task.situation.words.analysis is status
        assert analysis_from_record(task) == described
    with pytest.raises(ValueError, match="found no analysis"):
        analysis_from_record(ProcessingTask("x"))


def test_a_tracker_gives_a_result() -> None:
    """LU-08: of a task that is over."""
    tracker = TaskTracker("Configure", 1)
    tracker.update_task(
        task_name="leaf", status=TaskStatus.COMPLETED, result=(ResultCode.OK, "fine")
    )
    result = result_from_tracker(tracker)

    assert (result.task_name, result.task_status) == ("Configure", AnalysisStatus.COMPLETED)


# Reports


class Deaf:
    """A reporter that does not answer until told."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.heard: list[str] = []

    def report(self, report: Report) -> None:
        """Wait, note, and fail."""
        assert self.answer.wait(10)
        self.heard.append(report.status)
        raise OSError("nobody is there")


def test_a_reporter_that_is_down_hurts_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """LE-01, LE-03, D-12: who reports never waits; the newest status is kept."""
    caplog.set_level(logging.INFO)
    deaf, path = Deaf(), tmp_path / "reports"
    logger = logging.getLogger("reports")
    reporter = QueuedReporter([deaf, FileReporter(path), LogReporter(logger)], capacity=2)
    began = time.monotonic()
    for number in range(10):
        reporter.report(Report("peaks", f"S{number}", values={"n": number}))
    assert time.monotonic() - began < 5
    deaf.answer.set()
    assert reporter.close()

    assert deaf.heard[-1] == "S9"
    assert reporter.dropped + len(deaf.heard) == 10
    assert reporter.failed == len(deaf.heard)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == deaf.heard
    assert "peaks status: S9" in caplog.text


def test_two_stores_on_one_database_see_the_same(open_store: Callable[..., RecordStore]) -> None:
    """LD-08: nothing is kept in memory."""
    first, second = open_store(), open_store()
    record_analysis(first, analysis(threshold=4))

    assert read_latest_parameter(second, "peaks", "threshold") == 4
