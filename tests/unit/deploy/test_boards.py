"""The files of Taranta dashboards have the form that Taranta takes."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from milonga.deploy import Topology, dashboards, examples_folder

SCHEMA = json.loads(Path(__file__).with_name("taranta_board.schema.json").read_text())
BOARDS = dashboards(Topology.load(examples_folder() / "mid-csp" / "topology.yaml"))


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_valid_by_the_schema_of_its_form(name: str) -> None:
    """Its top, each widget's place, and what widgets of each kind take."""
    jsonschema.Draft202012Validator(SCHEMA).validate(BOARDS[name])


def without_device(board: dict[str, Any]) -> None:
    """Leave out what a command is of."""
    command = next(each for each in board["widget"] if each["type"] == "COMMAND")
    del command["inputs"]["command"]["device"]


def camel_case(board: dict[str, Any]) -> None:
    """Name an attribute as Tango does, which Taranta does not find."""
    shown = next(each for each in board["widget"] if each["type"] == "ATTRIBUTE_DISPLAY")
    shown["inputs"]["attribute"]["attribute"] = "taskTree"


def one_line(board: dict[str, Any]) -> None:
    """Write a style in a line."""
    command = next(each for each in board["widget"] if each["type"] == "COMMAND")
    command["inputs"]["btnCss"] = "color: #fff; background: #000"


def plural(board: dict[str, Any]) -> None:
    """Name the list of widgets as one would think that it is called."""
    board["widgets"] = board.pop("widget")


@pytest.mark.parametrize("mistake", [without_device, camel_case, one_line, plural])
def test_the_schema_finds_mistakes(mistake: Callable[[dict[str, Any]], None]) -> None:
    """Those that Taranta would pass over in silence."""
    board = copy.deepcopy(BOARDS["mid-csp-subarray-01.wj"])
    mistake(board)

    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(board))


@pytest.mark.parametrize("name", ["DryRun", "DescribePlan"])
def test_an_answer_that_is_a_text_is_shown_whole_and_long_enough_to_be_read(name: str) -> None:
    """A dry run of a subarray with four children is a kilobyte and more."""
    shown = [
        widget["inputs"]
        for board in BOARDS.values()
        for widget in board["widget"]
        if widget["inputs"].get("command", {}).get("command") == name
    ]

    assert shown
    assert all(inputs["OutputMaxSize"] >= 4000 for inputs in shown)
    assert all(inputs["timeDisplayOutput"] >= 30_000 for inputs in shown)
