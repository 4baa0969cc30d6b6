"""Accepting, running and aborting commands."""

import json
from collections.abc import Callable

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import CommandServer, CommandTable, Job, Publisher, Reporter


class Turns:
    """A thread that runs what it was given when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        """Take a call."""
        self.waiting.append(function)

    def run(self) -> None:
        """Make all calls, also those that they give."""
        while self.waiting:
            self.waiting.pop(0)()


class Work:
    """A job that can be looked into."""

    def __init__(self, name: str = "On", **options: object) -> None:
        self.report: Reporter | None = None
        self.aborted = 0
        self.ends: list[tuple[TaskStatus, object]] = []
        self.job = Job(
            name,
            self._start,
            self._abort,
            on_ended=lambda status, result: self.ends.append((status, result)),
            **options,  # type: ignore[arg-type]
        )

    def _start(self, report: Reporter) -> None:
        self.report = report

    def _abort(self) -> None:
        self.aborted += 1
        if self.report is not None:
            self.report(status=TaskStatus.ABORTED)

    def finish(self, status: TaskStatus = TaskStatus.COMPLETED, result: object = None) -> None:
        """End the work."""
        assert self.report is not None
        self.report(status=status, result=result)


class Server:
    """A command server with everything around it."""

    def __init__(self, max_queued: int = 32) -> None:
        self.turns = Turns()
        self.table = CommandTable(capacity=66)
        self.pushes: list[tuple[str, object]] = []
        publisher = Publisher(
            lambda name, value: self.pushes.append((name, value)), lambda _delay, _function: None
        )
        self.commands = CommandServer(self.table, publisher, self.turns.call_soon, max_queued)

    def submit(self, work: Work) -> str:
        """Submit work that must be taken."""
        code, uid = self.commands.submit(work.job)
        assert code is ResultCode.QUEUED
        return uid

    def finished(self) -> dict[str, list[object]]:
        """Return status and result of the ended commands by id."""
        entries = [json.loads(entry) for entry in self.table.value("lrcFinished")]
        return {entry["uid"]: [entry["status"], entry["result"]] for entry in entries}


def test_commands_run_one_after_the_other() -> None:
    """First in, first out; QUEUED is announced before IN_PROGRESS."""
    server, first, second = Server(), Work(), Work("Off")
    one, two = server.submit(first), server.submit(second)
    server.turns.run()
    assert server.table.status_of(one) is TaskStatus.IN_PROGRESS
    assert server.table.status_of(two) is TaskStatus.QUEUED

    first.finish(result=(ResultCode.OK, "fine"))
    server.turns.run()

    assert server.table.status_of(two) is TaskStatus.IN_PROGRESS
    assert server.finished() == {one: ["COMPLETED", [0, "fine"]]}


def test_a_command_without_a_result_gets_one() -> None:
    """Real clients index the result without a check."""
    server, work = Server(), Work("On")
    uid = server.submit(work)
    server.turns.run()

    work.finish()

    assert server.finished()[uid] == ["COMPLETED", [0, "On command completed OK"]]


def test_one_more_than_the_queue_holds_fits_and_no_refusal_leaves_a_trace() -> None:
    """TR-10: the running one does not count; a refused one leaks no record."""
    server = Server(max_queued=3)
    works = [Work() for _ in range(4)]
    for work in works:
        server.submit(work)
    server.turns.run()

    for _ in range(100):
        code, text = server.commands.submit(Work().job)
        assert code is ResultCode.REJECTED
        assert text == "Input queue supports a maximum of 3 commands"

    assert len(server.table.value("longRunningCommandIDsInQueue")) == 4


def test_a_command_that_is_not_allowed_any_more_is_rejected() -> None:
    """TR-11: asked again when its turn comes."""
    server = Server()
    uid = server.submit(Work(is_allowed=lambda: False))

    server.turns.run()

    assert server.finished()[uid] == ["REJECTED", [6, "Command is not allowed"]]


def test_a_job_that_raises_has_failed() -> None:
    """lrc-protocol d.5; the next command runs."""

    def start(_report: Reporter) -> None:
        raise ValueError("no such gate")

    server, after = Server(), Work()
    code, uid = server.commands.submit(Job("On", start))
    server.submit(after)
    server.turns.run()

    assert code is ResultCode.QUEUED
    assert server.finished()[uid] == [
        "FAILED",
        [3, "Unhandled exception during execution: no such gate"],
    ]
    assert after.report is not None


def test_what_raises_before_the_queue_is_forgotten() -> None:
    """The caller gets the exception; there is no record, and the queue works."""
    server = Server(max_queued=0)

    def refuse() -> None:
        raise ValueError("not now")

    for _ in range(5):
        with pytest.raises(ValueError, match="not now"):
            server.commands.submit(Work(on_accepted=refuse).job)

    assert server.table.value("longRunningCommandIDsInQueue") == ()
    server.submit(Work())


def test_abort_ends_what_waits_and_asks_what_runs() -> None:
    """TR-12 and lrc-protocol d.8."""
    server, running, waiting = Server(), Work(), Work("Off")
    one, two = server.submit(running), server.submit(waiting)
    server.turns.run()

    code, uid = server.commands.abort(Job("Abort", lambda report: report(status=COMPLETED)))
    server.turns.run()

    assert code is ResultCode.STARTED
    assert server.finished() == {
        two: ["ABORTED", [7, "Command has been aborted"]],
        one: ["ABORTED", [7, "Command has been aborted"]],
        uid: ["COMPLETED", [0, "Abort completed OK"]],
    }
    assert waiting.ends[0][0] is TaskStatus.ABORTED


def test_an_abort_ends_only_when_the_running_command_has() -> None:
    """And a second abort meanwhile joins it."""
    server = Server()
    reports: list[Reporter] = []
    server.commands.submit(Job("Scan", reports.append))
    server.turns.run()
    _, first = server.commands.abort(Job("Abort", lambda report: report(status=COMPLETED)))
    _, second = server.commands.abort(Job("Abort", lambda report: report(status=COMPLETED)))
    server.turns.run()
    assert server.table.status_of(first) is TaskStatus.IN_PROGRESS

    code, text = server.commands.submit(Work().job)
    assert (code, text) == (ResultCode.REJECTED, "Queue is being aborted")

    reports[0](status=TaskStatus.ABORTED)
    assert server.table.status_of(first) is TaskStatus.COMPLETED
    assert server.table.status_of(second) is TaskStatus.COMPLETED
    server.submit(Work())


def test_one_command_is_aborted_and_the_others_are_left() -> None:
    """AbortCommand(id), for one that waits and one that runs."""
    server = Server()
    works = [Work() for _ in range(3)]
    uids = [server.submit(work) for work in works]
    server.turns.run()

    assert server.commands.abort_one(uids[1]) == (ResultCode.OK, uids[1])
    assert server.commands.abort_one(uids[0]) == (ResultCode.OK, uids[0])
    server.turns.run()

    assert [server.table.status_of(uid).name for uid in uids] == [
        "ABORTED",
        "ABORTED",
        "IN_PROGRESS",
    ]


def test_aborting_an_ended_command_is_fine_and_an_unknown_one_is_said_to_be() -> None:
    """TR-12: idempotent."""
    server, work = Server(), Work()
    uid = server.submit(work)
    server.turns.run()
    work.finish()

    assert server.commands.abort_one(uid) == (ResultCode.OK, uid)
    code, text = server.commands.abort_one("1_2_On")
    assert code is ResultCode.REJECTED
    assert "1_2_On" in text


def test_a_shutdown_gives_everything_a_final_state() -> None:
    """Nothing stays QUEUED or IN_PROGRESS, and nothing more is taken."""
    server = Server()
    works = [Work() for _ in range(3)]
    uids = [server.submit(work) for work in works]
    server.turns.run()

    server.commands.close("shutting down")

    assert [server.table.status_of(uid).name for uid in uids] == ["ABORTED"] * 3
    assert server.commands.submit(Work().job)[0] is ResultCode.REJECTED


COMPLETED = TaskStatus.COMPLETED
