"""The page on topology files, of the models that check them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from milonga.deploy import _topology_models as models
from milonga.tasks import CommandMap
from milonga.tasks import _command_map as maps
from milonga.tasks import _late_specs as late
from milonga.tasks import _parts as parts
from tools.reference._markdown import MADE, page, parameters, summary, table

__all__ = ["command_map_page", "topology_page"]

_INTRODUCTION = """\
# The topology file

A system is one YAML file. `milonga validate FILE` names everything that is wrong with it, each with
its line; `milonga up FILE` starts it. An unknown key is a mistake. Each section below is a kind of
entry; a **key in bold** has to be there.
"""

_OF_MAPS = """\
# Command maps and policies

What stands in a topology below `command_map: {controller: …, subarray: …}`, by the name of the
command, and below `policies: {controller: …, subarray: …}`. How to write them:
[command maps](../how-to/command-maps.md), [policies](../how-to/policies.md). The device properties
`CommandMap` and `Policy` hold the same as JSON.

A node is, by the keys that it has, a command to children, several nodes (`tasks`), a method of the
device (`internal`), a plan (`plan`), a question to a person (`prompt`) or an analysis (`analysis`).
"""

_ALSO = {
    "name": "What others call it.",
    "device": "Tango name: `domain/family/member`.",
    "server": "The device server process that it runs in.",
    "timeout": "Seconds that a command may take.",
    "properties": "Device properties beside those that this file makes.",
    "class": "Its Tango class.",
    "children": "Names of the devices that it commands.",
    "id": "Number of the subarray.",
    "groups": "Groups that it belongs to, by which command maps and policies name it.",
    "script": "What a simulated leaf does with each command; `*` for all others.",
    "description": "A text for people.",
    "defaults": "What holds for every device that does not say otherwise.",
    "controller": "The device above all subarrays.",
    "subarrays": "The devices that command leaves as one.",
    "external": "Devices of somebody else that are commanded too.",
    "leaves": "The devices that do the work.",
    "plan_devices": "Devices that plans use.",
    "servers": "Device server processes that need to be told something, by name.",
    "records": "Where the servers keep records, for how long, and whom they may tell.",
    "command_map": "What commands do, by `controller` and `subarray`.",
    "policies": "Whose failure counts how, by `controller` and `subarray`.",
    "duration": "Seconds from start to end.",
    "steps": "How many times progress is reported on the way.",
    "outcome": "How it ends.",
    "message": "Text of the result.",
    "keys": "Top-level keys of the command's argument that are handed on.",
    "value": "What is handed on instead, as JSON.",
}

_FILE = (
    (models.TopologyFile, "The whole file"),
    (models.Defaults, "defaults"),
    (models.Controller, "controller"),
    (models.Subarray, "subarrays"),
    (models.Leaf, "leaves"),
    (models.ScriptStep, "script of a leaf, by command"),
    (models.External, "external"),
    (parts.UntilSpec, "until of a child, by command"),
    (models.PlanDevice, "plan_devices"),
    (models.Analysis, "analyses"),
    (models.Server, "servers, by name"),
    (models.TopologyRecords, "records"),
)
_MAP = (
    (maps.CommandSpec, "A command"),
    (maps.DeviceSpec, "A node that is a command to children"),
    (maps.CompositeSpec, "A node that is several"),
    (maps.InternalSpec, "A node that is a method of the device"),
    (maps.PlanStepSpec, "A node that is a plan"),
    (late.ConfirmSpec, "A node that waits for a person"),
    (late.AnalysisSpec, "A node that is an analysis"),
    (parts.PolicySpec, "policy, and policies by kind of device"),
    (parts.AllowedStates, "allowed_states"),
)


def topology_page() -> str:
    """Write the page on the file."""
    defined = models.TopologyFile.model_json_schema()["$defs"]
    written = [MADE, _INTRODUCTION]
    for model, title in _FILE:
        written += _section(model, title, defined)
    return page(written)


def command_map_page() -> str:
    """Write the page on what stands below ``command_map`` and ``policies``."""
    defined = CommandMap.model_json_schema()["$defs"]
    written = [MADE, _OF_MAPS]
    for model, title in _MAP:
        written += _section(model, title, defined)
    return page(written)


def _section(
    model: type[BaseModel], title: str, defined: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    schema = model.model_json_schema()
    schema = defined.get(model.__name__, schema)
    told = _told(model)
    required = schema.get("required", [])
    yield f"\n## {title}\n"
    yield f"{summary(model)}\n"
    rows = [
        (
            f"**`{key}`**" if key in required else f"`{key}`",
            _kind(field).replace("|", "\\|"),
            _default(field),
            told.get(key) or told.get(f"{key}_") or _ALSO.get(key, ""),
        )
        for key, field in schema["properties"].items()
    ]
    yield table(("key", "type", "default", "what it is"), rows)


def _told(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and its bases say of its fields."""
    told: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            told |= parameters(base)
    shared = "As for a `DeviceSpec`."
    of_device = parameters(maps.DeviceSpec)
    return {key: of_device.get(key, text) if text == shared else text for key, text in told.items()}


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "" if value in (None, "", [], {}) or isinstance(value, dict) else f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _kind(field: Mapping[str, Any]) -> str:
    for key, words in _WORDS.items():
        if key in field:
            return words(field[key])
    kind = str(field.get("type", "any"))
    return _CONTAINERS[kind](field) if kind in _CONTAINERS else _scalar(kind, field)


def _choice(choices: Sequence[Mapping[str, Any]]) -> str:
    if len(choices) == len(_NODES):
        return "node"
    kinds = [_kind(choice) for choice in choices if choice.get("type") != "null"]
    return " or ".join(dict.fromkeys(kinds))


def _mapping(field: Mapping[str, Any]) -> str:
    below = next(iter(field.get("patternProperties", {}).values()), None)
    below = below or field.get("additionalProperties")
    return f"mapping to {_kind(below)}" if isinstance(below, dict) else "mapping"


def _scalar(kind: str, field: Mapping[str, Any]) -> str:
    if kind == "number" and "exclusiveMinimum" in field:
        return f"number > {field['exclusiveMinimum']}"
    return {"string": "text", "boolean": "true or false", "integer": "whole number"}.get(kind, kind)


_WORDS: dict[str, Callable[[Any], str]] = {
    "$ref": lambda place: _named(place.rpartition("/")[2]),
    "enum": lambda values: ", ".join(f"`{value}`" for value in values),
    "const": lambda value: f"`{value}`",
    "anyOf": _choice,
    "oneOf": _choice,
}
_CONTAINERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "array": lambda field: f"list of {_kind(field.get('items', {}))}",
    "object": _mapping,
}


def _named(model: str) -> str:
    """Link to a model's section; JSON values and enumerations have none."""
    if model in _PLAIN:
        return _PLAIN[model]
    for known, title in (*_FILE, *_MAP):
        if known.__name__ == model:
            return f"[{title.partition(',')[0]}](#{_anchor(title)})"
    return model


_NODES = _MAP[1:7]
_PLAIN = {
    "JsonValue": "any",
    "TaskType": "`sequential`, `parallel`",
    "KeysArgument": "`{keys: [...]}`",
    "ValueArgument": "`{value: ...}`",
    "CommandMaps": "[command maps](command-map.md)",
    "Policies": "[policies](command-map.md)",
}


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
