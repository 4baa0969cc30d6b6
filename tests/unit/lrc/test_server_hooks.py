"""Who has a word in a command's begin and end, and commands from before a restart."""

from collections.abc import Callable

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import CommandRecord

from .test_server import Server, Work


class Slow:
    """Lets a command go on only when the test says so."""

    def __init__(self) -> None:
        self.begins: list[Callable[[], None]] = []
        self.ends: list[tuple[TaskStatus, object, Callable[[], None]]] = []

    def before_start(self, _uid: str, go_on: Callable[[], None]) -> None:
        """Keep the command from its start."""
        self.begins.append(go_on)

    def before_end(self, status: TaskStatus, result: object, go_on: Callable[[], None]) -> None:
        """Keep the command from its end."""
        self.ends.append((status, result, go_on))


def test_a_command_starts_when_what_comes_before_is_done() -> None:
    """IN-01: a node is written before its effect is sent."""
    slow = Slow()
    server, work = Server(), Work(before_start=slow.before_start)
    uid = server.submit(work)
    server.turns.run()
    assert work.report is None
    assert server.table.status_of(uid) is TaskStatus.QUEUED

    slow.begins[0]()
    slow.begins[0]()  # a second time does no harm

    assert work.report is not None
    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS


def test_a_command_has_ended_when_that_is_written() -> None:
    """IN-02: nobody sees the result before; the first of two ends counts."""
    slow = Slow()
    server, work = Server(), Work(before_end=slow.before_end)
    uid = server.submit(work)
    server.turns.run()
    work.finish(result=(ResultCode.OK, "fine"))
    work.finish(TaskStatus.FAILED)
    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS
    assert work.ends == []
    ((status, result, go_on),) = slow.ends
    assert (status, result) == (TaskStatus.COMPLETED, (ResultCode.OK, "fine"))

    go_on()

    assert server.finished() == {uid: ["COMPLETED", [0, "fine"]]}
    assert work.ends == [(TaskStatus.COMPLETED, (ResultCode.OK, "fine"))]


@pytest.mark.filterwarnings("error")
def test_what_fails_beside_a_command_does_not_keep_it() -> None:
    """IN-02: a record that cannot be written fails no command."""

    def broken(*_: object) -> None:
        raise RuntimeError("no disk")

    server, work = Server(), Work(before_start=broken, before_end=broken)
    uid = server.submit(work)
    server.turns.run()
    work.finish()

    assert server.table.status_of(uid) is TaskStatus.COMPLETED


def test_an_abort_before_the_start_ends_the_command_at_its_start() -> None:
    """A command that waits for its record can be aborted like one that runs."""
    slow = Slow()
    server, work = Server(), Work(before_start=slow.before_start)
    uid = server.submit(work)
    server.turns.run()

    code, _ = server.commands.abort_one(uid)

    assert code is ResultCode.OK
    assert work.aborted == 1


def test_the_end_of_the_device_waits_for_the_last_words() -> None:
    """A-17: what is shut down has a final state, and it is written."""
    slow = Slow()
    server, work = Server(), Work(before_end=slow.before_end)
    uid = server.submit(work)
    server.turns.run()

    server.commands.close("shut down", patience=0.01)

    assert [(status, result) for status, result, _ in slow.ends] == [
        (TaskStatus.ABORTED, (ResultCode.ABORTED, "Command has been aborted"))
    ]
    slow.ends[0][2]()
    assert server.table.status_of(uid) is TaskStatus.ABORTED


def test_nothing_starts_while_commands_are_held() -> None:
    """A-17: first what was there before the restart."""
    server, new, old = Server(), Work("Off"), Work("On")
    server.commands.hold()
    new_uid = server.submit(new)
    server.turns.run()
    assert new.report is None

    assert server.commands.readmit("1.5_7_On", old.job, "2030-01-01T00:00:00+00:00")
    assert server.commands.readmit("1.6_7_Off", Work("Off").job, "2030-01-01T00:00:01+00:00")
    server.commands.release()
    server.turns.run()

    assert server.table.status_of("1.5_7_On") is TaskStatus.IN_PROGRESS
    old.finish()
    server.turns.run()
    assert server.table.status_of("1.6_7_Off") is TaskStatus.IN_PROGRESS
    assert server.table.status_of(new_uid) is TaskStatus.QUEUED


def test_a_command_that_may_still_come_back_is_not_denied() -> None:
    """A-17: whoever asks for it during a restart must not take it for lost."""
    server = Server()
    server.commands.hold()
    assert server.commands.status_of("1.5_7_On") is TaskStatus.STAGING

    server.commands.release()
    assert server.commands.status_of("1.5_7_On") is TaskStatus.NOT_FOUND


def test_a_command_that_is_known_does_not_come_back() -> None:
    """A-17: one that was accepted while the store was read is in it as well."""
    server, work, again = Server(), Work(), Work()
    uid = server.submit(work)

    assert server.commands.knows(uid)
    assert not server.commands.readmit(uid, again.job, "2030-01-01T00:00:00+00:00")

    server.turns.run()
    work.finish()
    server.turns.run()
    assert again.report is None
    assert server.table.status_of(uid) is TaskStatus.COMPLETED


def test_the_next_command_starts_whatever_the_table_makes_of_an_end() -> None:
    """A-17: an end that the table takes no note of leaves the device free all the same."""
    server, lost, after = Server(), Work(), Work("Off")
    uid = server.submit(lost)
    server.turns.run()
    server.table.report(uid, TaskStatus.FAILED)

    lost.finish()
    after_uid = server.submit(after)
    server.turns.run()

    assert server.table.status_of(after_uid) is TaskStatus.IN_PROGRESS


def test_a_command_comes_back_under_its_own_id() -> None:
    """A-17: a client that knows the id finds it again, with the time of its submission."""
    server, old = Server(), Work("On")
    server.commands.readmit("1.5_7_On", old.job, "2030-01-01T00:00:00+00:00")
    server.turns.run()
    (executing,) = server.table.value("lrcExecuting")
    assert '"uid": "1.5_7_On"' in executing
    assert "2030-01-01" in executing

    old.finish()

    assert server.table.status_of("1.5_7_On") is TaskStatus.COMPLETED


def test_ended_commands_are_still_known_after_a_restart() -> None:
    """A-17: in lrcFinished, before those that have ended since, and by their ids."""
    server, work = Server(), Work()
    uid = server.submit(work)
    server.turns.run()
    work.finish()

    earlier = CommandRecord(
        "1.5_7_Off",
        "Off",
        status=TaskStatus.FAILED,
        result=(3, "no power"),
        finished_time="2030-01-01T00:00:00+00:00",
        ended_at=float("-inf"),
    )
    server.commands.restore([earlier])

    assert list(server.finished()) == ["1.5_7_Off", uid]
    assert server.table.status_of("1.5_7_Off") is TaskStatus.FAILED
    assert server.table.value("longRunningCommandIDsInQueue") == (uid,), "the old form is for now"


def broken(_uid: str) -> None:
    """Fail as what comes with a submission may."""
    raise RuntimeError("no room in the store")


def test_what_fails_at_a_submission_takes_no_place_in_the_queue() -> None:
    """IN-02: each that failed took one for ever, until the device took no command any more."""
    server = Server(max_queued=1)
    failing = [Work(on_submitted=broken) for _ in range(3)]
    for work in failing:
        server.submit(work)
        server.turns.run()
        work.finish()
        server.turns.run()
    assert [work.ends[0][0] for work in failing] == [TaskStatus.COMPLETED] * 3


def test_what_fails_at_the_submission_of_an_abort_leaves_it_in_force() -> None:
    """Every later Abort joined one that never began, and every command was refused."""
    server = Server()
    running, abort, next_abort = Work(), Work("Abort", on_submitted=broken), Work("Abort")
    uid = server.submit(running)
    server.turns.run()
    _, abort_uid = server.commands.abort(abort.job)
    server.turns.run()
    abort.finish()
    assert server.table.status_of(uid) is TaskStatus.ABORTED
    assert server.table.status_of(abort_uid) is TaskStatus.COMPLETED

    _, next_uid = server.commands.abort(next_abort.job)
    server.turns.run()
    next_abort.finish()
    assert server.table.status_of(next_uid) is TaskStatus.COMPLETED


def test_what_fails_at_the_submission_of_a_safety_command_does_not_keep_it() -> None:
    """The next call joined one that never began, and nothing else ever ran."""
    server = Server()
    stow, work = Work("Stow", safety=True, on_submitted=broken), Work()
    _, uid = server.commands.submit(stow.job)
    server.turns.run()
    stow.finish()
    assert server.table.status_of(uid) is TaskStatus.COMPLETED
    server.submit(work)
    server.turns.run()
    assert work.report is not None
