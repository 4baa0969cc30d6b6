"""How trees, waits and dry runs look in a terminal, narrow or wide, with colour or without."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from milonga.cli._app import app
from milonga.cli._dry_run import _drawn
from milonga.cli._finding import is_command_id
from milonga.cli._tree_view import pruned
from milonga.cli._trees import shown
from milonga.deploy import examples_folder

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def ago(seconds: float) -> str:
    """Write a time in the past."""
    return (NOW - timedelta(seconds=seconds)).isoformat()


def node(name: str, status: str, code: str = "", **more: object) -> dict[str, object]:
    """Return a node of a device."""
    target = {"target": f"lab/{name}/1", "command": "Go", "type": "device"}
    return {"name": name, "status": status, "result_code": code, **target, **more}


DOCUMENT = {
    "device": "lab/parent/1",
    "omitted": 3,
    "commands": [
        {
            "name": "Go",
            "type": "sequential",
            "status": "IN_PROGRESS",
            "progress": 47,
            "phase": "turn (2 of 3)",
            "eta": 4.2,
            "started": ago(3.0),
            "folded": {"OK": 996},
            "waiting": 7,
            "waits_for": [{"device": "lab/a/1", "command": "Go", "since": ago(2.8)}],
            "children": [
                node("a", "IN_PROGRESS", "STARTED", progress=40, started=ago(2.8)),
                node("b", "COMPLETED", "FAILED", message="no power in the rack of pulsars"),
                node("c", "REJECTED", "REJECTED", message="busy"),
                node("d", "ABORTED", "ABORTED"),
                node("e", "QUEUED"),
                node("f", "COMPLETED", "OK"),
            ],
        }
    ],
}


def drawn(width: int, document: dict[str, object] = DOCUMENT, encoding: str = "utf-8") -> list[str]:
    """Draw a document without colour."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, no_color=True, highlight=False)
    console.print(shown(document, console, NOW))
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined,no-any-return]


def test_a_tree_says_how_far_it_is_what_it_does_and_what_it_waits_for() -> None:
    """In eighty columns nothing is cut."""
    lines = drawn(80)

    assert lines[0] == "▶ Go  IN_PROGRESS 47 %  3.0 s  turn (2 of 3)  4 s left  +996 OK"
    assert "  waits 2.8 s for lab/a/1 Go" in lines
    assert "  and for 6 more" in lines
    assert lines[-1] == "3 older commands are not shown"
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_states_differ_without_colour() -> None:
    """By their marks and their words."""
    marks = {line.strip("├└│─ ")[0] for line in drawn(80)[1:7]}

    assert marks == set("▶✗⊘■○✓")


def test_a_terminal_with_ascii_only_is_enough() -> None:
    """As on an old console."""
    text = "\n".join(drawn(80, encoding="ascii"))

    assert text.isascii()
    assert "> Go  IN_PROGRESS" in text


@pytest.mark.parametrize("width", [20, 40, 59])
def test_a_terminal_that_is_too_narrow_is_told_so(width: int) -> None:
    """What fits is shown, on one line a node."""
    lines = drawn(width)

    assert lines[-1].startswith(f"cut: {width} columns")
    assert max(map(len, lines)) <= width


def test_a_tree_that_is_too_long_counts_what_is_well() -> None:
    """What runs and what went wrong is listed; what is hidden is counted."""
    good = {
        "name": "done",
        "status": "COMPLETED",
        "result_code": "OK",
        "children": [node(f"d{n}", "COMPLETED", "OK") for n in range(50)],
    }
    parts = [
        *(node(f"ok{n}", "COMPLETED", "OK") for n in range(50)),
        *(node(f"later{n}", "QUEUED") for n in range(50)),
        node("bad", "COMPLETED", "FAILED"),
        node("busy", "IN_PROGRESS"),
    ]
    tree = {"name": "Go", "status": "IN_PROGRESS", "children": [good, *parts]}

    wide = pruned(tree, 200)
    shorter = pruned(tree, 110)
    shortest = pruned(tree, 10)

    assert wide == tree
    assert shorter["children"][0]["folded"] == {"OK": 50}
    assert len(shorter["children"]) == 103
    assert [child["name"] for child in shortest["children"]] == ["bad", "busy"]
    assert shortest["folded"] == {"OK": 100, "QUEUED": 50}


def test_a_device_without_commands_says_so() -> None:
    """Rather than nothing."""
    assert drawn(80, {"device": "lab/parent/1", "commands": []}) == ["lab/parent/1 has no commands"]


def test_a_dry_run_names_what_would_go_wrong() -> None:
    """Refusals first, then each call with what stands against it."""
    told = {
        "command": "Go",
        "accepted": False,
        "expected": 7.2,
        "refusals": [{"kind": "state", "text": "not permitted in EMPTY"}],
        "calls": [
            {"target": "lab/a/1", "command": "Go", "argument": json.dumps({"x": "y" * 100})},
            {"target": "lab/b/1", "command": "Go", "not_sent": "already there"},
            {"target": "lab/c/1", "command": "Go", "problem": "does not answer"},
        ],
        "left_out": [{"child": "d", "why": "out of service"}],
    }
    file = io.StringIO()
    Console(file=file, width=80, highlight=False).print(_drawn("lab/parent/1", told))
    text = file.getvalue()

    assert "nothing was sent  it should take 7.2 s" in text
    assert "refused (state): not permitted in EMPTY" in text
    assert "lab/b/1 Go  not sent: already there" in text
    assert "lab/c/1 Go  would fail: does not answer" in text
    assert "left out: d: out of service" in text


def test_ids_of_commands_are_not_names_of_devices() -> None:
    """So that both can be given in the same place."""
    assert is_command_id("1795269560.9208803_221285667325636_On")
    assert not is_command_id("mid-csp/control/0")
    assert not is_command_id("my_alias")


def test_dashboards_are_written_and_named(tmp_path: Path) -> None:
    """A line each, or one JSON object."""
    topology = str(examples_folder() / "mid-csp" / "topology.yaml")

    plain = CliRunner().invoke(app, ["dashboards", topology, "--out", str(tmp_path)])
    as_json = CliRunner().invoke(app, ["dashboards", topology, "--out", str(tmp_path), "--json"])

    files = plain.stdout.splitlines()
    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    assert json.loads(as_json.stdout) == {"name": "mid-csp", "files": files}
    assert all(Path(file).suffix == ".wj" and Path(file).exists() for file in files)


def test_a_topology_that_is_wrong_gives_no_dashboards(tmp_path: Path) -> None:
    """Exit code 2, as everywhere."""
    result = CliRunner().invoke(app, ["dashboards", str(tmp_path / "none.yaml")])

    assert result.exit_code == 2
    assert "cannot be read" in result.stderr
