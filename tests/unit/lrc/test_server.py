"""Accepting, running and aborting commands."""

import json
from collections.abc import Callable

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import CommandServer, CommandTable, Job, Publisher, Reporter, Timer


class Turns:
    """A thread that runs what it was given when it is told to, and its clock."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.timers: list[Timer] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        """Take a call."""
        self.waiting.append(function)

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        """Take a call for later."""
        self.timers.append(Timer(delay, function))
        return self.timers[-1]

    def pass_time(self) -> None:
        """Make the calls for later as well."""
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()
        self.run()

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
        self.commands = CommandServer(
            self.table, publisher, self.turns.call_soon, self.turns.call_later, max_queued
        )

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


def test_an_abort_gives_up_a_command_that_ignores_it() -> None:
    """The device takes commands again, the result says so, and a late end changes nothing."""
    server, after = Server(), Work("Off")
    reports: list[Reporter] = []
    _, uid = server.commands.submit(Job("Scan", reports.append))
    server.turns.run()
    _, abort = server.commands.abort(Job("Abort", lambda report: report(status=COMPLETED)))
    server.turns.run()
    assert server.table.status_of(abort) is TaskStatus.IN_PROGRESS

    server.turns.pass_time()

    text = "did not confirm the abort within 4.5 s"
    ends = {uid: ["ABORTED", [7, text]], abort: ["COMPLETED", [3, f"Scan {text}, and may go on"]]}
    assert server.finished() == ends
    server.submit(after)
    server.turns.run()
    assert after.report is not None

    reports[0](status=COMPLETED, result=(ResultCode.OK, "done after all"))
    assert server.finished() == ends
    assert server.commands.statistics()["late_ends"] == 1


def test_an_abort_that_is_not_carried_on_ends_too() -> None:
    """Whatever a device's own Abort does."""
    server = Server()
    _, abort = server.commands.abort(Job("Abort", lambda _report: None))
    server.turns.run()
    server.turns.pass_time()
    assert server.finished()[abort] == [
        "COMPLETED",
        [3, "Abort was not carried on within 4.5 s"],
    ]
    server.submit(Work())


def test_an_abort_in_time_is_not_given_up() -> None:
    """Its clock is stopped, and does not hit the next one."""
    server = Server()
    _, first = server.commands.abort(Job("Abort", lambda report: report(status=COMPLETED)))
    server.turns.run()
    server.commands.abort(Job("Abort", lambda _report: None))
    stopped, running = server.turns.timers
    assert (stopped.cancelled, running.cancelled) == (True, False)
    assert server.finished()[first] == ["COMPLETED", [0, "Abort completed OK"]]


def test_an_abort_that_joins_another_is_told_which() -> None:
    """Before it is announced; what it would do is not done, and both end alike."""
    server = Server()
    reports: list[Reporter] = []
    seen: list[tuple[str, str]] = []
    jobs = [Job("Abort", reports.append) for _ in range(3)]
    for job in jobs:
        job.on_submitted = lambda uid, job=job: seen.append((uid, job.joins))
    uids = [server.commands.abort(job)[1] for job in jobs]
    server.turns.run()

    assert seen == [(uids[0], ""), (uids[1], uids[0]), (uids[2], uids[0])]
    assert len(reports) == 1
    reports[0](status=COMPLETED, result=(ResultCode.FAILED, "1 REFUSED"))
    assert server.finished() == {uid: ["COMPLETED", [3, "1 REFUSED"]] for uid in uids}


def test_an_abort_that_comes_while_another_ends_has_its_result() -> None:
    """Whichever thread is quicker, it does not stay under way."""
    server = Server()
    reports: list[Reporter] = []
    _, first = server.commands.abort(Job("Abort", reports.append))
    server.turns.run()
    late = Job("Abort", lambda _report: None)
    late.on_submitted = lambda _uid: reports[0](status=COMPLETED)

    _, second = server.commands.abort(late)

    assert late.joins == first
    assert server.finished()[second] == server.finished()[first]


def test_any_number_of_aborts_leaves_the_tables_readable() -> None:
    """No attribute lists more than it has places for: two, or three in lrcExecuting."""
    server = Server()
    server.submit(Work())
    server.turns.run()
    reports: list[Reporter] = []
    server.commands.submit(Job("Scan", reports.append))
    for _ in range(80):
        server.commands.abort(Job("Abort", lambda _report: None))
    lengths = {
        name: len(server.table.value(name))
        for name in ("lrcExecuting", "longRunningCommandInProgress", "longRunningCommandStatus")
    }
    assert lengths == {
        "lrcExecuting": 3,
        "longRunningCommandInProgress": 2,
        "longRunningCommandStatus": 132,
    }


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
