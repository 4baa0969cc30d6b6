"""Following trees through outages, with no device there."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tango")

from milonga.cli import _tree
from milonga.cli._exit import ExitCode
from milonga.cli._tree_following import UNKNOWN_FOR, Looking
from milonga.control_model import ResultCode
from milonga.errors import ArgumentError, CommandRejected, Unreachable
from milonga.records import NewTask, Recorder, RecordStore, Situation

GONE = "tango://127.0.0.1:1/lab/parent/1#dbase=no"
RUNNING = {"name": "Go", "command_id": "17_22_Go", "status": "IN_PROGRESS"}
DOCUMENT = {"device": "lab/parent/1", "number": 4, "commands": [RUNNING]}


def test_an_outage_is_told_once_and_what_was_known_is_kept() -> None:
    """However long it is; between looks cppTango is given its second."""
    waited: list[float] = []
    looking = Looking(GONE, DOCUMENT, None, wait=waited.append)

    told = [looking.look() for _ in range(5)]

    assert "lab/parent/1" in told[0]
    assert told[1:] == [""] * 4
    assert looking.document == DOCUMENT
    assert looking.trouble
    assert min(waited[1:]) > 1.0


def test_an_outage_ends_and_a_text_that_is_no_tree_does_not_end_the_following(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is told once, when it begins and when it is over."""
    answers: list[Any] = [
        *(Unreachable("gone"), Unreachable("still gone"), DOCUMENT),
        *(ArgumentError("no tree"), DOCUMENT, DOCUMENT),
    ]

    def read(_trl: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("milonga.cli._tree_following.read_trees", read)
    looking = Looking(GONE, DOCUMENT, "17_22_Go", wait=lambda _: None)

    told = [looking.look() for _ in range(6)]

    again = "lab/parent/1#dbase=no answers again"
    assert told == ["gone", "", again, "no tree", again, ""]
    assert not looking.is_done


def test_a_command_that_nobody_knows_any_more_is_given_up_after_a_while() -> None:
    """Rejected, as any command that is not there; a device that starts needs a moment."""
    now = [0.0]
    looking = Looking(GONE, DOCUMENT, "17_22_Go", clock=lambda: now[0])

    looking._give_up("17_22_Go")
    now[0] = UNKNOWN_FOR + 0.1

    with pytest.raises(CommandRejected, match="is not known there any more"):
        looking._give_up("17_22_Go")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ({"status": "COMPLETED", "result_code": "OK"}, ExitCode.OK),
        ({"status": "COMPLETED", "result_code": "FAILED"}, ExitCode.FAILED),
        ({"status": "ABORTED", "result_code": None}, ExitCode.ABORTED),
        ({"status": "REJECTED"}, ExitCode.REJECTED),
    ],
)
def test_a_command_that_was_followed_gives_its_exit_code(
    outcome: dict[str, str], code: ExitCode
) -> None:
    """As `milonga call` would."""
    looking = Looking(GONE, DOCUMENT | {"commands": [RUNNING | outcome]}, "17_22_Go")

    assert looking.is_done
    assert looking.code is code


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("by_id_alone", [False, True])
def test_following_a_command_that_is_over_ends_with_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follow: bool, by_id_alone: bool
) -> None:
    """As if it had been followed to its end; but to look at a failure is no failure."""
    where, uid = tmp_path / "records.db", "17_22_Go"
    with RecordStore(where) as store, Recorder(store, "srv/1") as recorder:
        recorder.open(NewTask(uid=uid, task_name="Go", device="lab/a/1", command="Go"))
        recorder.finish(uid, Situation.FAILED, "no power", result_code=ResultCode.FAILED)
    empty = {"device": "lab/a/1", "number": 1, "commands": []}
    monkeypatch.setattr(_tree, "read_trees", lambda _trl: empty)
    arguments = (uid, None) if by_id_alone else ("lab/a/1", uid)

    code = _tree.tree(*arguments, follow=follow, as_json=True, tango_host="h:1", store=str(where))

    assert code is (ExitCode.FAILED if follow else ExitCode.OK)
