"""What is shown of a device's plans."""

import json
from typing import Any

import pytest

pytest.importorskip("tango")

from milonga.cli import _plans
from milonga.cli._console import messages, output

COUNT = {
    "name": "count",
    "docs": "Count [s] on :camera: or [red]detectors.",
    "schema": {
        "required": ["detectors"],
        "properties": {
            "detectors": {"type": "array", "items": {"enum": ["det", "[bold]"]}},
            "num": {"type": "integer", "default": 1},
            "per": {"type": "array", "items": {"type": "string"}, "default": ["s"]},
        },
    },
    "actions": [],
}


class Planner:
    """A device that has one plan."""

    def __init__(self, _trl: str) -> None:
        pass

    def command_inout(self, name: str, *_: Any) -> Any:
        """Answer."""
        return ["count"] if name == "ListPlans" else json.dumps(COUNT)


@pytest.mark.parametrize("name", [None, "count"])
def test_what_is_in_brackets_is_shown(
    name: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Optional arguments are, and so may be whatever comes from a device."""
    monkeypatch.setattr(_plans.tango, "DeviceProxy", Planner)

    _plans.plans("tango://h:1/lab/planner/1", name, as_json=False, tango_host=None)

    found = " ".join(capsys.readouterr().out.split())
    assert "Count [s] on :camera: or [red]detectors." in found
    expected = "detectors [num] [per]" if name is None else "detectors list of det | [bold] num"
    assert expected in found
    assert name is None or 'list of string ["s"]' in found


def test_all_consoles_write_what_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    """No text of a device is taken for markup."""
    for console in (output(), messages()):
        console.print("[red]x[/red] [/] :wave:")

    out, err = capsys.readouterr()
    assert out == err == "[red]x[/red] [/] :wave:\n"
