"""More time, asked for over the wire."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from milonga.control_model import TaskStatus
from milonga.devices._limits import set_limit
from milonga.lrc import Invocation, Job, Reporter, Scheduler
from milonga.lrc._reading import read_event, read_table


def told_by(invocation_signs: bool) -> tuple[Invocation, list[dict[str, Any]]]:
    """Return a command on its way, and what is told of it."""
    told: list[dict[str, Any]] = []
    carrier: Any = SimpleNamespace(name="lab/a/1", forget=lambda _invocation: None)
    invocation = Invocation(carrier, "On", None, lambda **news: told.append(news))
    invocation.signs = invocation_signs
    return invocation, told


def test_who_wants_signs_is_told_what_is_new_by_events_and_looks() -> None:
    """A doubled event and a look add nothing; a lost one is made good by the next."""
    invocation, told = told_by(invocation_signs=True)
    (first,) = read_event(("1", '{"extend": 5.0}'))
    (third,) = read_event(("1", '{"extend": 8}'))
    (seen,) = read_table(['{"uid": "1", "extend": 8.0}'], TaskStatus.IN_PROGRESS)

    kinds = [invocation.heard(news) for news in (first, first, third)]
    invocation.found(seen)

    assert [news["extend"] for news in told if "extend" in news] == [5.0, 3.0]
    assert kinds == ["", "doubled", ""]


def test_others_are_not_told() -> None:
    """It is no news of the command."""
    invocation, told = told_by(invocation_signs=False)
    invocation.heard(next(read_event(("1", '{"extend": 5.0}'))))
    assert told == []


@pytest.mark.parametrize("value", ["true", '"5"', "-1", "1e999", "null", "[]"])
def test_what_is_no_time_is_not_read(value: str) -> None:
    """It comes from somebody else's device."""
    (news,) = read_event(("1", f'{{"extend": {value}}}'))
    assert news.extend == 0.0


def test_the_limit_of_a_simple_job_moves_with_what_it_asks_for() -> None:
    """Its client hears of it and has its own; without that it ends as before."""
    scheduler = Scheduler("test-limit")
    told: list[dict[str, Any]] = []
    try:
        reports: list[Reporter] = []
        job = Job("On", reports.append)
        set_limit(job, 0.05, scheduler.call_later)
        job.start(lambda **news: told.append(news))
        reports[0](extend=0.05)
        for _ in range(500):
            if len(told) > 1:
                break
            scheduler_turn(scheduler)
    finally:
        scheduler.close()
    assert told[0] == {"extend": 0.05}
    assert told[1]["result"][1] == "timed out after 0.1 s"


def scheduler_turn(scheduler: Scheduler) -> None:
    """Wait until the scheduler has had a turn a moment from now."""
    turn = threading.Event()
    scheduler.call_later(0.01, turn.set)
    assert turn.wait(10.0)
