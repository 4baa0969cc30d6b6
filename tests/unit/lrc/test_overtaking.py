"""Safety commands, which wait for nobody."""

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import Job
from milonga.lrc._overtaking import MAX_JOINED

from .test_server import Server, Work


def stow(**options: object) -> Work:
    """Return work that overtakes."""
    return Work("Stow", safety=True, **options)


def started(server: Server, work: Work) -> str:
    """Submit a safety command, and return its id."""
    code, uid = server.commands.submit(work.job)
    assert code is ResultCode.STARTED
    server.turns.run()
    return uid


def test_it_starts_beside_a_full_queue_and_has_what_runs_aborted() -> None:
    """Row 48: what was interrupted and overtaken is in its result, and it in that of the other."""
    server, running, waiting = Server(max_queued=1), Work("Scan"), Work("Off")
    one, two = server.submit(running), server.submit(waiting)
    server.turns.run()
    assert server.commands.submit(Work().job)[0] is ResultCode.REJECTED

    work = stow()
    uid = started(server, work)

    assert running.aborted == 1
    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS
    assert server.finished()[one] == [
        "ABORTED",
        [7, f"Command has been aborted; interrupted by Stow ({uid})"],
    ]
    assert work.job.bypass == {"interrupted": [one], "overtook": [two]}
    work.finish()
    assert server.finished()[uid] == [
        "COMPLETED",
        [0, f"Stow command completed OK; interrupted {one}; overtook 1 waiting"],
    ]


def test_what_waits_goes_on_waiting_until_it_has_ended() -> None:
    """Nothing new begins while a device is brought to safety; then the queue goes on."""
    server, running, waiting = Server(), Work("Scan"), Work("Off")
    server.submit(running)
    later = server.submit(waiting)
    server.turns.run()
    work = stow()
    started(server, work)
    assert server.table.status_of(later) is TaskStatus.QUEUED

    work.finish()
    server.turns.run()

    assert server.table.status_of(later) is TaskStatus.IN_PROGRESS


def test_what_was_about_to_start_waits_as_well() -> None:
    """The safety command may come between a command's turn and its start."""
    server, other, work = Server(), Work("On"), stow()
    later = server.submit(other)
    _, uid = server.commands.submit(work.job)
    server.turns.run()

    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS
    assert server.table.status_of(later) is TaskStatus.QUEUED
    assert work.job.bypass == {"overtook": [later]}


def test_it_may_run_beside_what_runs() -> None:
    """If the command map says so; the queue waits for both."""
    server, running, waiting = Server(), Work("Scan"), Work("Off")
    one = server.submit(running)
    later = server.submit(waiting)
    server.turns.run()
    work = stow(interrupts=False)
    uid = started(server, work)

    assert running.aborted == 0
    work.finish()
    server.turns.run()
    assert server.finished()[uid][1] == [
        0,
        f"Stow command completed OK; ran beside {one}; overtook 1 waiting",
    ]
    assert server.table.status_of(later) is TaskStatus.QUEUED
    running.finish()
    server.turns.run()
    assert server.table.status_of(later) is TaskStatus.IN_PROGRESS


def test_a_second_call_joins_the_first() -> None:
    """So there is no more than one of each, however often somebody calls it."""
    server, first = Server(), stow()
    second = stow()
    uid = started(server, first)

    joined = [started(server, stow()) for _ in range(MAX_JOINED)]
    assert len({uid, *joined}) == MAX_JOINED + 1
    assert [started(server, second) for _ in range(100)] == [uid] * 100
    assert second.report is None
    assert len(server.table.value("lrcExecuting")) == 1

    first.finish(result=(ResultCode.OK, "reached"))
    assert {str(end) for end in server.finished().values()} == {"['COMPLETED', [0, 'reached']]"}
    assert set(server.finished()) == {uid, *joined}
    third = stow()
    started(server, third)
    assert third.report is not None


def test_a_call_that_joins_knows_which_one_before_it_is_announced() -> None:
    """As an Abort that joins; so its record has no tree that would not run."""
    server, first, second = Server(), stow(), stow()
    seen: list[tuple[str, str]] = []
    second.job.on_submitted = lambda uid: seen.append((uid, second.job.joins))
    uid = started(server, first)
    joined = started(server, second)
    assert seen == [(joined, uid)]
    assert first.job.joins == ""


def test_a_call_that_comes_while_another_ends_has_its_result() -> None:
    """Whichever thread is quicker, it does not stay under way."""
    server, first, late = Server(), stow(), stow()
    uid = started(server, first)
    late.job.on_submitted = lambda _uid: first.finish(result=(ResultCode.OK, "reached"))

    joined = started(server, late)

    assert late.job.joins == uid
    assert server.finished()[joined] == server.finished()[uid] == ["COMPLETED", [0, "reached"]]


def test_what_is_interrupted_and_given_up_says_both() -> None:
    """An Abort after the safety command bounds what has not ended for either."""
    server, running = Server(), Work("Scan")
    one = server.submit(running)
    server.turns.run()
    running.job.abort = lambda: None
    uid = started(server, stow())
    server.commands.abort(Job("Abort", lambda report: report(status=TaskStatus.COMPLETED)))
    server.turns.run()
    server.turns.pass_time()

    text = f"did not confirm the abort within 4.5 s; interrupted by Stow ({uid})"
    assert server.finished()[one] == ["ABORTED", [7, text]]
    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS


def test_another_one_interrupts_it() -> None:
    """The last word counts, if two are called."""
    server, first, second = Server(), stow(), Work("Off", safety=True)
    one = started(server, first)
    two = started(server, second)
    assert server.finished()[one][1] == [
        7,
        f"Command has been aborted; interrupted by Off ({two})",
    ]
    assert server.table.status_of(two) is TaskStatus.IN_PROGRESS


def test_an_abort_neither_refuses_nor_ends_it() -> None:
    """Who aborts wants what is under way to end, not the way to safety."""
    server, running = Server(), Work("Scan")
    server.submit(running)
    server.turns.run()
    running.job.abort = lambda: None
    server.commands.abort(Job("Abort", lambda report: report(status=TaskStatus.COMPLETED)))

    work = stow()
    uid = started(server, work)
    server.commands.abort(Job("Abort", lambda _report: None))

    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS
    assert work.aborted == 0
    assert "did not wait for an abort" in work.job.remark


def test_it_can_be_aborted_by_its_id() -> None:
    """If somebody means it."""
    server, work = Server(), stow()
    uid = started(server, work)
    assert server.commands.abort_one(uid) == (ResultCode.OK, uid)
    assert server.table.status_of(uid) is TaskStatus.ABORTED


def test_it_does_not_wait_for_its_record() -> None:
    """A store that does not answer keeps no device from safety."""
    server, work = Server(), stow(before_start=lambda _uid, _go_on: None)
    started(server, work)
    assert work.report is not None


def test_a_shutdown_ends_it() -> None:
    """And takes no further one."""
    server, work = Server(), Work("Stow", safety=True)
    work.job.abort = lambda: None
    uid = started(server, work)
    server.commands.close("shut down")
    assert server.table.status_of(uid) is TaskStatus.ABORTED
    assert server.commands.submit(stow().job)[0] is ResultCode.REJECTED


def test_one_that_is_refused_before_it_starts_leaves_no_trace() -> None:
    """What raises before the start is told to the caller, and the queue goes on."""

    def refuse() -> None:
        raise ValueError("no")

    server, other = Server(), Work("On")
    with pytest.raises(ValueError, match="no"):
        server.commands.submit(stow(on_accepted=refuse).job)
    uid = server.submit(other)
    server.turns.run()
    assert server.table.status_of(uid) is TaskStatus.IN_PROGRESS
