"""Command trees are readable on a narrow terminal, and in a pipe."""

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from milonga.cli._tree_view import LinePainter, TreePainter, culprits, label, painter, render

NOW = datetime(2026, 1, 2, 3, 4, 15, tzinfo=UTC)
STARTED = "2026-01-02T03:04:05+00:00"
FINISHED = "2026-01-02T03:04:07.500000+00:00"


def node(name: str, status: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Make a node as `CommandTree` gives it."""
    return {"name": name, "status": status, "children": list(children)} | more


TREE = node(
    "Configure",
    "IN_PROGRESS",
    node(
        "cbf", "IN_PROGRESS", target="mid-csp/cbf/01", command="Configure", progress=40,
        started=STARTED,
    ),
    node(
        "pst", "COMPLETED", target="tango://db:10000/mid-csp/pst/01", command="Configure",
        result_code="FAILED", message="no beam weights " * 10, started=STARTED, finished=FINISHED,
    ),
    node("pss", "QUEUED", target="mid-csp/pss/01", command="Configure"),
    started=STARTED,
)  # fmt: skip


def drawn(width: int, *, ascii_only: bool = False) -> list[str]:
    """Draw the tree on a terminal of this width."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(render(TREE, NOW, ascii_only=ascii_only))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_tree_fits_into_eighty_columns() -> None:
    """One line for each node, cut rather than wrapped."""
    lines = drawn(80)

    assert lines[:2] == [
        "▶ Configure  IN_PROGRESS  10.0 s",
        "├── ▶ mid-csp/cbf/01 Configure  IN_PROGRESS 40 %  10.0 s",
    ]
    assert lines[2].startswith("├── ✗ mid-csp/pst/01 Configure  FAILED  2.5 s  no beam weights")
    assert lines[2].endswith("…")
    assert lines[3] == "└── ○ mid-csp/pss/01 Configure  QUEUED"
    assert max(map(len, lines)) <= 80


def test_a_terminal_without_unicode_gets_marks_that_it_has() -> None:
    """The marks are a help, the words say the same."""
    assert drawn(80, ascii_only=True)[0] == "> Configure  IN_PROGRESS  10.0 s"


def test_a_pipe_gets_a_line_for_each_start_and_end() -> None:
    """No control characters, no line twice, no wrapping."""
    out = io.StringIO()
    console = Console(file=out, width=40)
    lines = painter(console)
    assert isinstance(lines, LinePainter)

    with lines:
        lines.show(TREE)
        lines.show(TREE)
        lines.show(TREE | {"status": "COMPLETED", "result_code": "FAILED"})

    text = out.getvalue()
    assert "\x1b" not in text
    assert [line.split()[1:4] for line in text.splitlines()] == [
        ["Configure", "IN_PROGRESS", text.splitlines()[0].split()[3]],
        ["mid-csp/cbf/01", "Configure", "IN_PROGRESS"],
        ["mid-csp/pst/01", "Configure", "FAILED"],
        ["Configure", "FAILED", text.splitlines()[3].split()[3]],
    ]


def test_a_pipe_gets_no_line_twice_when_steps_come_to_be_only_counted() -> None:
    """A node is the same one wherever it stands in the list."""
    out = io.StringIO()
    painting = LinePainter(Console(file=out, width=80))
    steps = [node(n, "COMPLETED", result_code=code) for n, code in (("a", "OK"), ("b", "FAILED"))]

    painting.show(node("Go", "IN_PROGRESS", *steps))
    before = out.getvalue()
    painting.show(node("Go", "IN_PROGRESS", *steps[1:], folded={"OK": 1}))

    assert out.getvalue() == before


def test_a_terminal_gets_the_tree() -> None:
    """It is drawn in place."""
    console = Console(file=io.StringIO(), force_terminal=True)

    assert isinstance(painter(console), TreePainter)


def test_text_of_devices_is_never_taken_for_markup() -> None:
    """A message with brackets is shown as it is."""
    out = io.StringIO()
    odd = node("[red]x[/]", "FAILED", result_code="FAILED", message="[bold]no[/bold] [1]")

    Console(file=out, width=80).print(render(odd, NOW))

    assert out.getvalue().strip() == "✗ [red]x[/]  FAILED  [bold]no[/bold] [1]"


def test_culprits_are_the_lowest_nodes_that_failed() -> None:
    """A parent that only passes a failure on is not named."""
    failed = node("x", "FAILED", target="a/b/c")
    tree = node(
        "On", "COMPLETED",
        node("sub", "COMPLETED", failed, node("y", "COMPLETED", result_code="OK"),
             target="a/sub/1", result_code="FAILED"),
        node("z", "REJECTED"),
        node("w", "COMPLETED", result_code="OK"),
        result_code="FAILED",
    )  # fmt: skip

    assert culprits(tree) == ["a/b/c", "z"]


def test_a_tree_with_nonsense_in_it_is_still_drawn() -> None:
    """Devices of other people may send other things."""
    out = io.StringIO()
    odd = {"status": 5, "children": "none", "started": "yesterday", "progress": "much"}

    Console(file=out, width=80).print(render(odd, NOW))

    assert out.getvalue().strip() == "? ?  5"


def test_what_was_wrong_beside_the_outcome_is_shown() -> None:
    """Events, the answer to an abort, silence, and who wanted the end."""
    odd = {
        "name": "a",
        "status": "ABORTED",
        "abort": "REFUSED",
        "irregular_events": {"missing": 1, "late": 2, "notes": []},
        "stalled": True,
        "aborted_by": "ann@lab",
    }
    good = {"name": "a", "status": "COMPLETED", "result_code": "OK", "abort": "ACK"}

    assert label(odd, NOW).plain.endswith(
        "  [events 2 late, 1 missing]  [abort REFUSED]  [STALLED]  [aborted by ann@lab]"
    )
    assert "[" not in label(good, NOW).plain
