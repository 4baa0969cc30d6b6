"""`milonga tasks`, `log` and `explain`: on a store, for people and for programs."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from milonga.cli._app import app
from milonga.cli._exit import ExitCode
from milonga.cli._history_lists import moment
from milonga.control_model import ResultCode
from milonga.errors import ArgumentError
from milonga.records import NewTask, Recorder, RecordStore, Situation

Run = Callable[..., Result]


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Return a store with a command that failed below, one that went well, and one that runs."""
    path = tmp_path / "records.db"
    with RecordStore(path) as store, Recorder(store) as recorder:

        def node(uid: str, **more: Any) -> None:
            recorder.open(NewTask(uid=uid, task_name=uid.rpartition("/")[2], **more))
            recorder.change(uid, situation=Situation.RUNNING)

        node("1_On", device="top/a/1", command="On", issuer="ann@here")
        recorder.finish("1_On", Situation.DONE, "fine", result_code=ResultCode.OK)
        node("2_Configure", device="top/a/1", command="Configure", issuer="bob@here")
        node("2_Configure/cbf", parent_uid="2_Configure", device="cbf/a/1", command="Configure")
        recorder.log("2_Configure/cbf", "warming up")
        recorder.add_run("2_Configure/cbf", "run-1")
        recorder.finish("2_Configure/cbf", Situation.FAILED, "no power", error="Traceback")
        recorder.finish("2_Configure", Situation.FAILED, "cbf failed")
        node("3_Scan", device="top/a/2", command="Scan")
        assert recorder.flush(10.0)
    return path


@pytest.fixture
def run(where: Path) -> Run:
    """Run a command on the store, in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--store", str(where)])

    return run


def ids(result: Result) -> list[str]:
    """Return the ids of a JSON list."""
    assert result.exit_code == ExitCode.OK, result.output
    return [task["uid"] for task in json.loads(result.stdout)]


def test_commands_are_listed_the_newest_first(run: Run) -> None:
    """For people: when, how long, how, who what; id, who called, and why it failed."""
    result = run("tasks")

    assert result.exit_code == ExitCode.OK
    lines = result.stdout.splitlines()
    assert [line.split()[-1] for line in lines if not line.startswith("    ")] == [
        "Scan",
        "Configure",
        "On",
    ]
    assert "    2_Configure  by bob@here" in lines
    assert "    cbf failed" in lines
    assert "fine" not in result.stdout
    assert "\x1b" not in result.stdout, "no colour where nobody looks"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["3_Scan", "2_Configure", "1_On"]),
        (("--limit", "1"), ["3_Scan"]),
        (("--device", "top/a/2"), ["3_Scan"]),
        (("--command", "On"), ["1_On"]),
        (("--status", "failure"), ["2_Configure"]),
        (("--status", "PENDING"), ["3_Scan"]),
        (("--status", "failed"), ["2_Configure"]),
        (("--status", "OK"), ["1_On"]),
        (("--user", "ann"), ["1_On"]),
        (("--run", "run-1"), ["2_Configure/cbf"]),
        (("--since", "1h"), ["3_Scan", "2_Configure", "1_On"]),
        (("--until", "1h"), []),
        (("--since", "2030-01-01"), []),
        (("--all-nodes", "--device", "cbf/a/1"), ["2_Configure/cbf"]),
    ],
)
def test_filters_choose(run: Run, options: tuple[str, ...], expected: list[str]) -> None:
    """QA-08: time, device, command, status, user, run."""
    assert ids(run("tasks", "--json", *options)) == expected


def test_bad_is_whatever_has_ended_and_did_not_go_well(tmp_path: Path) -> None:
    """Each with one word, the same that trees have where they have one."""
    ends = {
        "1_On": (Situation.DONE, "OK"),
        "2_On": (Situation.STOPPED, "STOPPED"),
        "3_On": (Situation.PARTIAL, "PARTIAL"),
        "4_On": (Situation.FAILED, "FAILED"),
        "5_On": (Situation.ERROR, "FAILED"),
        "6_On": (Situation.ABORTED, "ABORTED"),
        "7_On": (Situation.TIMED_OUT, "TIMED_OUT"),
        "8_On": (Situation.LOST, "LOST"),
    }
    path = tmp_path / "records.db"
    with RecordStore(path) as store, Recorder(store) as recorder:
        for uid, (situation, _) in ends.items():
            recorder.open(NewTask(uid=uid, task_name="On", device="top/a/1", command="On"))
            recorder.finish(uid, situation)
        recorder.open(NewTask(uid="9_On", task_name="On", device="top/a/1", command="On"))
        assert recorder.flush(10.0)

    def listed(*options: str) -> list[str]:
        result = CliRunner().invoke(app, ["tasks", "--store", str(path), *options])
        return [line.split()[-3] for line in result.stdout.splitlines() if line[0] != " "]

    words = [word for _, word in ends.values()]
    assert listed() == ["QUEUED", *reversed(words)]
    assert listed("--status", "bad") == list(reversed(words[2:]))


def test_a_table_for_programs_has_a_head(run: Run) -> None:
    """CSV, with messages of several lines and all."""
    result = run("tasks", "--csv")

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["uid"] for row in rows] == ["3_Scan", "2_Configure", "1_On"]
    assert rows[1]["message"] == "cbf failed"
    assert rows[2]["issuer"] == "ann@here"


def test_a_table_has_all_commands_unless_a_number_is_given(where: Path, run: Run) -> None:
    """What is exported is complete, or was asked not to be."""
    with RecordStore(where) as store, Recorder(store) as recorder:
        for number in range(30):
            recorder.open(NewTask(uid=f"9_{number}_Go", task_name="Go", command="Go"))
        assert recorder.flush(10.0)

    def count(*options: str) -> int:
        return len([*csv.DictReader(io.StringIO(run("tasks", "--csv", *options).stdout))])

    assert (count(), count("--limit", "25")) == (33, 25)
    assert len(ids(run("tasks", "--json"))) == 20
    assert run("tasks", "--csv", "--status", "GREEN").exit_code == ExitCode.USAGE


def test_a_long_log_says_what_it_leaves_out_and_can_be_had_whole(where: Path, run: Run) -> None:
    """IN-08: nothing is left out without a word."""
    with RecordStore(where) as store, Recorder(store) as recorder:
        for number in range(2500):
            recorder.log("3_Scan", f"line {number}")
        assert recorder.flush(10.0)

    def lines(*options: str) -> list[str]:
        told = run("log", "3_Scan", *options).stdout.splitlines()
        texts = [line.split(" UTC ")[-1] for line in told]
        return [text.strip() for text in texts if text.split()[0] in {"…", "line"}]

    said = "… 2300 earlier lines are left out; --all shows them"
    assert lines() == [said, *(f"line {number}" for number in range(2300, 2500))]
    assert lines("--all") == [f"line {number}" for number in range(2500)]


def test_the_course_of_a_command_is_told_in_order(run: Run) -> None:
    """With what its nodes said, and how each ended."""
    result = run("log", "2_Configure")

    assert result.exit_code == ExitCode.OK
    assert all(line.split(" ")[1] == "UTC" for line in result.stdout.splitlines())
    lines = [line.split(" ", 2)[2] for line in result.stdout.splitlines()]
    assert lines[0] == "accepted: top/a/1 Configure by bob@here"
    assert "cbf began: cbf/a/1 Configure" in lines
    assert "cbf warming up" in lines
    assert lines[-1] == "FAILED: cbf failed"
    assert lines.index("cbf warming up") < lines.index("cbf FAILED: no power")
    told = json.loads(run("log", "2_Configure", "--json").stdout)
    assert [event["text"] for event in told if event["node"] == "cbf"][-1] == "FAILED: no power"


def test_the_first_line_says_why(run: Run) -> None:
    """At most 120 characters; the rest has call, time and trace."""
    first, *rest = run("explain", "2_Configure").stdout.splitlines()

    assert first == "Configure failed: cbf/a/1 Configure failed: no power"
    assert len(first) <= 120
    assert any(line.startswith("cause: cbf/a/1 Configure at ") for line in rest)
    assert "error: Traceback" in rest
    assert json.loads(run("explain", "2_Configure", "--json").stdout)["firstLine"] == first
    assert "is running" in run("explain", "3_Scan").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("log", "nope"), ExitCode.REJECTED, "found no record of 'nope'"),
        (("explain", "nope"), ExitCode.REJECTED, "found no record of 'nope'"),
        (("tasks", "--since", "noon"), ExitCode.USAGE, "--since: found 'noon', expected a time"),
        (("tasks", "--status", "GREEN"), ExitCode.USAGE, ": status: found 'GREEN', expected one"),
        (("tasks", "--status", "GREEN"), ExitCode.USAGE, "ABORTED, BAD, NOT_ALLOWED"),
        (("tasks", "--json", "--csv"), ExitCode.USAGE, "found both --json and --csv"),
        (("tasks", "--from", "a/b/c"), ExitCode.USAGE, "found both --store and --from"),
    ],
)
def test_what_cannot_be_told_has_an_exit_code(
    run: Run, arguments: tuple[str, ...], code: ExitCode, text: str
) -> None:
    """And a line that says why."""
    result = run(*arguments)
    assert result.exit_code == code
    assert text in result.output


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Who looks back changes nothing."""
    path = tmp_path / "other.db"
    result = CliRunner().invoke(app, ["tasks", "--store", str(path)])
    assert result.exit_code == ExitCode.USAGE
    assert "expected one: give --store, or --from a device" in result.stderr
    assert not path.exists()


def test_the_store_is_that_of_the_environment(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As devices choose it."""
    monkeypatch.delenv("MILONGA_RECORDS", raising=False)
    monkeypatch.setenv("MILONGA_DATA", str(where.parent))
    assert CliRunner().invoke(app, ["tasks"]).stdout.count("Configure") == 2
    monkeypatch.setenv("MILONGA_RECORDS", str(where))
    monkeypatch.setenv("MILONGA_DATA", "elsewhere")
    assert CliRunner().invoke(app, ["explain", "1_On"]).exit_code == ExitCode.OK


def test_a_time_of_the_list_can_be_given_back(run: Run) -> None:
    """It says that it is in UTC, wherever one is."""
    first = run("tasks").stdout.splitlines()[0]
    listed = " ".join(first.split()[:3])

    assert listed.endswith(" UTC")
    assert "3_Scan" in ids(run("tasks", "--json", "--since", listed))
    assert "3_Scan" not in ids(run("tasks", "--json", "--until", listed))


def test_times_are_moments_or_ages() -> None:
    """A time without a zone is local."""
    now = datetime(2030, 1, 2, 12, tzinfo=UTC)
    assert moment("--since", "2d", now) == "2029-12-31T12:00:00+00:00"
    assert moment("--since", "1.5h", now) == "2030-01-02T10:30:00+00:00"
    local = datetime(2030, 1, 1, 8).astimezone().isoformat()
    assert moment("--since", "2030-01-01T08:00", now) == local
    assert moment("--since", "2030-01-01T08:00Z", now).startswith("2030-01-01T")  # type: ignore[union-attr]
    assert moment("--until", None, now) is None
    with pytest.raises(ArgumentError, match="--until: found '5y'"):
        moment("--until", "5y", now)


@pytest.mark.parametrize("text", ["9999999d", "0001-01-01", "99999999999999999999999999999999d"])
def test_a_time_before_all_times_is_wrong_input(text: str) -> None:
    """And no error of ours."""
    with pytest.raises(ArgumentError, match=f"--since: found '{text}', expected a time such as"):
        moment("--since", text, datetime(2030, 1, 2, tzinfo=UTC))


def test_the_tree_of_a_command_that_is_over_comes_from_the_records(tmp_path: Path) -> None:
    """A-17: no device and no database is needed; one that goes on is looked for at its device."""
    rack = "the rack of pulsars, " * 5 + "row 7"
    path, uid = tmp_path / "records.db", "17.5_42_On"
    with RecordStore(path) as store, Recorder(store) as recorder:
        recorder.open(NewTask(uid=uid, task_name="On", device="top/a/1", command="On"))
        recorder.open(NewTask(uid=f"{uid}/cbf", task_name="cbf", parent_uid=uid, device="cbf/a/1"))
        recorder.finish(f"{uid}/cbf", Situation.FAILED, f"no power in {rack}")
        recorder.finish(uid, Situation.FAILED, "cbf failed")

    drawn = CliRunner().invoke(app, ["tree", uid, "--store", str(path)])
    told = CliRunner().invoke(app, ["tree", uid, "--json", "--store", str(path)])

    assert drawn.exit_code == ExitCode.OK, drawn.output
    assert f"no power in {rack}" in drawn.stdout, "in a pipe, nothing is cut"
    (node,) = json.loads(told.stdout)["commands"]
    assert (node["command_id"] or uid, node["result_code"]) == (uid, "FAILED")
