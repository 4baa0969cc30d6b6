"""What became of each child, as data that fits."""

import json

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._last_outcomes import MAX_TEXT, LastOutcomes


def outcome(number: int, code: str) -> dict[str, object]:
    """Return what became of one leaf."""
    text = "x" * 1000
    return {"name": f"n{number}", "target": f"a/n/{number}", "result_code": code, "message": text}


def test_before_the_first_command_there_is_nothing() -> None:
    """An empty object, which every reader of JSON takes."""
    assert json.loads(LastOutcomes().text()) == {}


def test_a_thousand_children_fit_and_those_that_failed_are_told_first() -> None:
    """However long their messages are."""
    outcomes = [outcome(n, "FAILED" if n % 10 == 0 else "OK") for n in range(1000)]
    last = LastOutcomes()
    result = (ResultCode.FAILED, "y" * 100_000)
    payload = {"status": TaskStatus.COMPLETED, "result": result, "outcomes": outcomes}
    last.note("1_2_On", "On", payload | {"health_state": "DEGRADED"})

    text = last.text()
    told = json.loads(text)

    assert len(text) < MAX_TEXT + 1024
    assert sum(one["result_code"] == "FAILED" for one in told["outcomes"]) == 100
    assert len(told["outcomes"]) + told["omitted"] == 1000
    assert told["partial"] is True
    assert last.text() is text
