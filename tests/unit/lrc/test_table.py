"""What a device's attributes show of its commands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milonga.control_model import TaskStatus
from milonga.lrc import FINISHED_KEPT, LEGACY_RETENTION, CommandTable, Push


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now


def names(pushes: list[Push]) -> list[str]:
    """Return the attributes that are pushed, in order."""
    return [push.attribute for push in pushes]


def run(table: CommandTable, name: str, *statuses: TaskStatus, result: object = None) -> str:
    """Take a command through statuses; the result comes with the last."""
    uid, _ = table.open(name)
    for status in statuses:
        table.report(uid, status, result=result if status is statuses[-1] else None)
    return uid


DONE = (TaskStatus.QUEUED, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED)


def test_a_new_command_is_announced_as_staging() -> None:
    """lrc-protocol 3.4: three deprecated attributes, then the event, no tables."""
    table = CommandTable()

    uid, pushes = table.open("On")

    assert names(pushes) == [
        "longRunningCommandsInQueue",
        "longRunningCommandIDsInQueue",
        "longRunningCommandStatus",
        "_lrcEvent",
    ]
    assert pushes[2].value == (uid, "STAGING")
    assert pushes[3].value == (uid, '{"status": 0}')
    assert table.value("lrcQueue") == ()


def test_the_end_is_pushed_in_the_order_of_the_original() -> None:
    """lrc-protocol 3.4: result, status, in progress; then the event; then the three tables."""
    table = CommandTable()
    uid = run(table, "On", TaskStatus.QUEUED, TaskStatus.IN_PROGRESS)

    report = table.report(uid, TaskStatus.COMPLETED, result=(0, "On command completed OK"))

    assert report is not None
    assert report.ended
    assert names(report.before) == [
        "longRunningCommandResult",
        "longRunningCommandStatus",
        "longRunningCommandInProgress",
    ]
    assert names(report.after) == ["_lrcEvent", "lrcQueue", "lrcExecuting", "lrcFinished"]
    assert report.before[0].value == (uid, '[0, "On command completed OK"]')
    assert report.after[0].value == (
        uid,
        '{"status": 5, "result": [0, "On command completed OK"]}',
    )


def test_the_tables_have_their_keys_in_order() -> None:
    """lrc-protocol 3.1: uid first; submitted_time is there, unlike in the original."""
    table = CommandTable()
    uid = run(table, "On", TaskStatus.QUEUED)
    assert list(json.loads(table.value("lrcQueue")[0])) == ["uid", "name", "submitted_time"]

    table.report(uid, TaskStatus.IN_PROGRESS)
    table.report(uid, progress="33")
    executing = json.loads(table.value("lrcExecuting")[0])
    assert list(executing) == ["uid", "name", "submitted_time", "started_time", "progress"]
    assert executing["progress"] == 33

    table.report(uid, TaskStatus.COMPLETED, result="done")
    assert list(json.loads(table.value("lrcFinished")[0])) == [
        "uid",
        "name",
        "status",
        "submitted_time",
        "started_time",
        "finished_time",
        "result",
    ]


def test_a_finished_command_never_changes() -> None:
    """A late report of any kind is ignored and counted."""
    table = CommandTable()
    uid = run(table, "On", *DONE, result=(0, "ok"))
    before = table.value("lrcFinished")

    assert table.report(uid, TaskStatus.FAILED, result=(3, "late")) is None
    assert table.report(uid, progress=50) is None
    assert table.value("lrcFinished") == before
    assert table.statistics()["ignored_reports"] == 2


def test_a_status_never_goes_backwards() -> None:
    """QUEUED after IN_PROGRESS is ignored; what came with it is not."""
    table = CommandTable()
    uid = run(table, "On", TaskStatus.QUEUED, TaskStatus.IN_PROGRESS)

    report = table.report(uid, TaskStatus.QUEUED, progress=10)

    assert table.status_of(uid) is TaskStatus.IN_PROGRESS
    assert report is not None
    assert json.loads(report.after[0].value[1]) == {"progress": 10}  # type: ignore[index]


def test_a_hundred_finished_commands_are_listed_the_newest_last() -> None:
    """lrc-protocol 3.2."""
    table = CommandTable()
    uids = [run(table, "On", *DONE) for _ in range(FINISHED_KEPT + 20)]

    listed = [json.loads(entry)["uid"] for entry in table.value("lrcFinished")]

    assert listed == uids[-FINISHED_KEPT:]
    assert table.status_of(uids[0]) is TaskStatus.NOT_FOUND


def test_the_deprecated_attributes_forget_after_ten_seconds() -> None:
    """lrc-protocol 3.2: but the result stays."""
    clock = Clock()
    table = CommandTable(clock=clock)
    uid = run(table, "On", *DONE, result=(0, "ok"))
    assert table.value("longRunningCommandStatus") == (uid, "COMPLETED")

    clock.now += LEGACY_RETENTION + 0.1

    assert table.value("longRunningCommandStatus") == ()
    assert table.value("longRunningCommandResult") == (uid, '[0, "ok"]')


def test_ended_commands_give_way_when_the_deprecated_attributes_are_full() -> None:
    """The oldest goes first; what has not ended never goes."""
    table = CommandTable(capacity=32)
    running = run(table, "Scan", TaskStatus.QUEUED, TaskStatus.IN_PROGRESS)
    ended = [run(table, "On", *DONE) for _ in range(40)]

    listed = table.value("longRunningCommandIDsInQueue")

    assert len(listed) == 32
    assert listed == (*ended[-31:], running)


def test_a_result_that_is_no_json_becomes_text() -> None:
    """lrc-protocol 3.1."""
    table = CommandTable()

    run(table, "On", *DONE, result={1, 2})

    assert json.loads(table.value("lrcFinished")[0])["result"] == "{1, 2}"
    assert table.value("longRunningCommandResult")[1] == '"{1, 2}"'


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(TaskStatus), st.one_of(st.none(), st.text())),
        max_size=60,
    )
)
def test_whatever_is_reported_each_command_is_in_one_place(
    reports: list[tuple[int, TaskStatus, str | None]],
) -> None:
    """Each command is waiting, running or ended, and ends once."""
    table = CommandTable()
    uids = [table.open(f"C{n}")[0] for n in range(6)]
    ends = dict.fromkeys(uids, 0)
    for number, status, progress in reports:
        report = table.report(uids[number], status, progress)
        ends[uids[number]] += bool(report and report.ended)

    staging = {uid for uid in uids if table.status_of(uid) is TaskStatus.STAGING}
    listed = [
        json.loads(entry)["uid"]
        for name in ("lrcQueue", "lrcExecuting", "lrcFinished")
        for entry in table.value(name)
    ]
    assert sorted([*listed, *(staging - set(listed))]) == sorted(uids)
    assert all(count <= 1 for count in ends.values())


def test_what_a_command_asks_for_is_told_as_a_sum() -> None:
    """So that a client that hears of it twice, or misses one, still knows how much it is."""
    table = CommandTable()
    uid, _ = table.open("On")
    table.report(uid, TaskStatus.IN_PROGRESS)
    news = []
    for seconds in (5.0, 2.5):
        report = table.report(uid, extend=seconds)
        assert report is not None
        news += [
            json.loads(push.value[1]) for push in report.after if push.attribute == "_lrcEvent"
        ]  # type: ignore[index]
    assert news == [{"extend": 5.0}, {"extend": 7.5}]
    assert json.loads(table.value("lrcExecuting")[0])["extend"] == 7.5


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_time_is_not_asked_for(seconds: float) -> None:
    """Nothing is told of it."""
    table = CommandTable()
    uid, _ = table.open("On")
    assert table.report(uid, extend=seconds) is None
