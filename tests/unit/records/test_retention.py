"""Records leave: as JSON lines, as CSV, or for good."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milonga.errors import FileRefused
from milonga.records import (
    CSV_COLUMNS,
    AnalysisStatus,
    DescribedAnalysis,
    FileStore,
    ProcessingTask,
    RecordStore,
    Retention,
    Situation,
    TaskFilter,
    TaskResult,
    claim_round,
    close_abandoned,
    export_csv,
    export_jsonl,
    find_page,
    read_latest_parameter,
    record_analysis,
    retain,
)

Tell = Callable[..., None]


def uids(store: RecordStore, **wanted: Any) -> list[str]:
    """Return the names of the tasks on a page."""
    with store.reading() as session:
        return [task.uid for task in find_page(session, TaskFilter(**wanted)).tasks]


def test_records_are_exported_as_json_lines(timed: RecordStore, tell: Tell) -> None:
    """Export: oldest first, each line for itself."""
    tell("c1", data={"ü": [1]}, parameters='{"a": 1}')
    tell("c1/leaf")
    tell("c1", Situation.FAILED, "because\nof that")
    stream = io.StringIO()

    assert export_jsonl(timed, stream) == 2

    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [row["uid"] for row in rows] == ["c1", "c1/leaf"]
    assert rows[0]["data"] == {"ü": [1]}
    assert rows[0]["message"] == "because\nof that"
    assert rows[1]["parent"] == rows[1]["root"] == "c1"


def test_records_are_exported_as_csv(timed: RecordStore, tell: Tell) -> None:
    """Export: texts with commas and newlines stay in their cell."""
    tell("c1")
    tell("c1", Situation.FAILED, 'because, "of"\nthat')
    stream = io.StringIO()

    assert export_csv(timed, stream, TaskFilter(status="FAILURE")) == 1

    (row,) = csv.DictReader(io.StringIO(stream.getvalue()))
    assert tuple(row) == CSV_COLUMNS
    assert row["message"] == 'because, "of"\nthat'


# Retention


def test_old_commands_go_and_running_ones_stay(timed: RecordStore, tell: Tell, clock: Any) -> None:
    """QE-11, C-11: a command goes with its tree, unless something in it still runs."""
    for uid in ("old", "old/leaf", "half", "half/leaf", "open", "new"):
        tell(uid)
    for uid in ("old/leaf", "old", "half", "open/x"):
        tell(uid, Situation.DONE)
    clock.advance(1000)
    tell("new", Situation.DONE)

    assert retain(timed, Retention(max_age=500)) == 1

    assert sorted(uids(timed, roots_only=False)) == ["half", "half/leaf", "new", "open"]


def test_too_many_commands_lose_the_oldest(timed: RecordStore, tell: Tell) -> None:
    """QE-11: a bound on their number."""
    for number in range(5):
        tell(f"c{number}")
    for number in (1, 2, 3, 4):
        tell(f"c{number}", Situation.DONE)

    assert retain(timed, Retention(max_count=3, batch=1)) == 2

    assert uids(timed) == ["c4", "c3", "c0"]


def test_too_large_commands_go_and_their_files_first(
    timed: RecordStore, tell: Tell, tmp_path: Path
) -> None:
    """QE-11: a bound on bytes; whoever's files cannot be deleted stays."""
    files = FileStore.local(timed, tmp_path)
    for number in range(3):
        tell(f"c{number}")
        files.persist_task_result(f"c{number}", b"x" * 100_000, "data", "d")
        tell(f"c{number}", Situation.DONE)

    def refuse(file: Any) -> None:
        raise OSError("busy")

    assert retain(timed, Retention(max_bytes=250_000), refuse) == 0
    assert retain(timed, Retention(max_bytes=250_000), files.delete) == 1

    assert uids(timed) == ["c2", "c1"]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("error", [OSError, FileRefused, KeyError])
def test_a_file_that_cannot_be_deleted_keeps_only_its_own_command(
    timed: RecordStore, tell: Tell, tmp_path: Path, error: type[Exception]
) -> None:
    """QE-11: the others go, whatever is wrong with the one."""
    files = FileStore.local(timed, tmp_path)
    for number in range(3):
        tell(f"c{number}")
        files.persist_task_result(f"c{number}", b"x", "data", "d")
        tell(f"c{number}", Situation.DONE)

    def drop(file: Any) -> None:
        if file.file_storage_data.startswith("task_1/"):
            raise error("no")
        files.delete(file)

    assert retain(timed, Retention(max_count=0), drop) == 2
    assert uids(timed) == ["c0"]


def test_what_fits_is_not_looked_at_row_by_row(timed: RecordStore, tell: Tell) -> None:
    """QE-11: the estimate may be more than there is."""
    tell("c1", parameters="x" * 2_000_000)
    tell("c1", Situation.DONE)

    assert retain(timed, Retention(max_bytes=10_000_000)) == 0
    assert retain(timed, Retention(max_bytes=1_000_000)) == 1


def test_analyses_go_with_their_commands(timed: RecordStore, tell: Tell) -> None:
    """QE-11, LD-08: nothing of a dropped command stays."""
    for uid in ("c1", "c1/fit", "c2", "c2/fit"):
        tell(uid)
    for uid in ("c1/fit", "c1", "c2/fit", "c2"):
        tell(uid, Situation.DONE)
    result = TaskResult("fit", AnalysisStatus.COMPLETED, "", None)
    for uid, value in (("c1/fit", 1), ("c2/fit", 2)):
        record_analysis(timed, DescribedAnalysis(result, {"x": value}), uid=uid, run=value)

    assert retain(timed, Retention(max_count=1)) == 1

    assert read_latest_parameter(timed, "fit", "x", for_run=1) is None
    assert read_latest_parameter(timed, "fit", "x", for_run=2) == 2


def test_one_process_looks_after_the_store_for_all(timed: RecordStore, clock: Any) -> None:
    """QE-11: those that share it take turns."""
    assert claim_round(timed, 3000)
    assert not claim_round(timed, 3000)
    clock.advance(3001)
    assert claim_round(timed, 3000)
    clock.advance(-7200)
    assert claim_round(timed, 3000), "a clock that was set back does not stop it"


def test_commands_of_devices_that_are_no_more_are_lost(
    timed: RecordStore, tell: Tell, clock: Any
) -> None:
    """QE-10: with their nodes; those of the server's other devices go on."""
    for uid, device in (("old", "lab/old/1"), ("new", "lab/new/1"), ("late", "lab/old/1")):
        if uid == "late":
            started = clock.now
        tell(uid, device=device)
        tell(f"{uid}/leaf", device="lab/leaf/1")

    assert close_abandoned(timed, "srv/2", [], clock.now) == 0
    assert close_abandoned(timed, "srv/1", ["lab/new/1"], started) == 2

    with timed.reading():
        for uid, status in (("old", "LOST"), ("old/leaf", "LOST"), ("new", "PENDING")):
            task = ProcessingTask.get_by_uid(uid)
            assert task is not None
            assert task.status == status
        assert uids(timed, status="PENDING") == ["late", "new"]
