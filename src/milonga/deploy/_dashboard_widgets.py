"""Widgets of Taranta dashboards, as the data that a ``.wj`` file has of them.

What a widget takes is what Taranta 2.18 saves for it, with its defaults.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Board", "Widget", "attribute", "command", "heading", "status"]

TARANTA_VERSION = "2.18.9"

_WHEN = "2026-01-01T00:00:00.000Z"  # a file that is made again is the same

TEXT_SHOWN = 4000
"""Characters that a button shows of a command's answer that is a text: a dry run, a plan."""

TEXT_SECONDS = 60

_BLUE, _RED = "#1976d2", "#b71c1c"


@dataclass(frozen=True)
class Widget:
    """A widget without its place.

    Parameters
    ----------
    type : str
        Taranta's name of the kind.
    inputs : dict
        What it shows and how.
    height : int
        Grid units that it is high.
    """

    type: str
    inputs: dict[str, Any] = field(default_factory=dict)
    height: int = 2


def heading(text: str) -> Widget:
    """Return a line of text."""
    inputs = {
        "text": text,
        "textColor": "#000000",
        "backgroundColor": "#e0e0e0",
        "size": 1.2,
        "borderWidth": 0,
        "borderColor": "#000000",
        "font": "Helvetica",
        "linkTo": "",
        "customCss": "",
    }
    return Widget("LABEL", inputs)


def status(device: str) -> Widget:
    """Return a device's name with its State."""
    inputs = {
        "device": device,
        "state": {"device": None, "attribute": None},
        "showDeviceName": True,
        "showStateString": True,
        "showStateLED": True,
        "LEDSize": 1,
        "textSize": 1,
    }
    return Widget("DEVICE_STATUS", inputs)


def attribute(device: str, name: str, label: str = "", height: int = 2) -> Widget:
    """Return the value of an attribute; Taranta shows one that is JSON as a tree."""
    inputs = {
        "attribute": {"device": device, "attribute": name.lower(), "label": label or name},
        "precision": 2,
        "showDevice": False,
        "showAttribute": "Label",
        "scientificNotation": False,
        "showEnumLabels": True,
        "showAttrQuality": False,
        "alignTextCenter": False,
        "alignValueRight": False,
        "textColor": "#000000",
        "backgroundColor": "#ffffff",
        "size": 1,
        "font": "Helvetica",
        # one property a line: Taranta ignores what is written in one
        "widgetCss": "overflow: auto" if height > 2 else "",  # noqa: PLR2004 - more than a line
    }
    return Widget("ATTRIBUTE_DISPLAY", inputs, height)


def command(
    device: str, name: str, takes: str = "DevVoid", gives: str = "", *, ask: bool = False
) -> Widget:
    """Return a button that calls a command, with a field for what the command takes.

    Parameters
    ----------
    device, name : str
        The command.
    takes, gives : str
        Tango's names of the types of its argument and its answer.
    ask : bool
        Whether Taranta asks before it calls; such a button is red.
    """
    inputs = {
        "command": {
            "device": device,
            "command": name,
            "acceptedType": takes,
            "intypedesc": "",
            "outtypedesc": "",
            "outtype": gives or "DevVarLongStringArray",
            "tag": "0",
        },
        "title": "",
        "buttonText": name,
        "commandArgs": [],
        "requireConfirmation": ask,
        "displayOutput": True,
        "placeholder": "intype",
        "OutputMaxSize": TEXT_SHOWN if gives else 100,
        "timeDisplayOutput": 1000 * (TEXT_SECONDS if gives else 3),
        "textColor": "#000000",
        "backgroundColor": "#ffffff",
        "size": 1,
        "font": "Helvetica",
        "btnCss": f"background-color: {_RED if ask else _BLUE}\ncolor: #ffffff",
    }
    return Widget("COMMAND", inputs)


class Board:
    """A dashboard in the making: columns of widgets, filled from the top.

    Parameters
    ----------
    name : str
        Its name, unique in a Taranta.
    """

    GAP = 1

    def __init__(self, name: str) -> None:
        self.name = name
        self._widgets: list[dict[str, Any]] = []
        self._bottoms: dict[int, int] = {}
        self._floor = 0

    def add(self, widgets: Iterable[Widget], x: int, width: int) -> None:
        """Put widgets below each other, `x` grid units from the left."""
        for widget in widgets:
            y = self._bottoms.get(x, self._floor)
            number = len(self._widgets)
            self._widgets.append(
                {
                    "id": str(number + 1),
                    "type": widget.type,
                    "x": x,
                    "y": y,
                    "width": width,
                    "height": widget.height,
                    "canvas": "0",
                    "order": number,
                    "valid": 1,
                    "percentage": 0,
                    "inputs": widget.inputs,
                }
            )
            self._bottoms[x] = y + widget.height + self.GAP

    def level(self) -> None:
        """Let all columns go on at the same height."""
        self._floor = max(self._bottoms.values(), default=self._floor)
        self._bottoms = {}

    def to_data(self) -> dict[str, Any]:
        """Return the dashboard as a ``.wj`` file has it."""
        return {
            "id": hashlib.sha256(self.name.encode()).hexdigest()[:24],
            "name": self.name,
            "version": TARANTA_VERSION,
            "user": "milonga",
            "insertTime": _WHEN,
            "updateTime": _WHEN,
            "group": None,
            "groupWriteAccess": False,
            "lastUpdatedBy": "milonga",
            "widget": self._widgets,
            "variables": [],
            "environment": ["*/*"],
            "filters": [],
        }
