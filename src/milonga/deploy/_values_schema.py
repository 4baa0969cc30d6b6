"""The chart's `values.schema.json`, made from the models of the topology and of the chart."""

from collections.abc import Mapping
from typing import Any

from milonga.deploy._chart_values import ChartValues
from milonga.deploy._topology_models import CLASSES, MAX_DEVICES, SIMULATORS

__all__ = ["values_schema"]

_LISTS = ("subarrays", "leaves", "external", "plan_devices")
_PLAN_DEVICE_CLASS = {
    "if": {"properties": {"type": {"not": {"enum": sorted(SIMULATORS)}}}, "required": ["server"]},
    "then": {"required": ["class"]},
}
# once a server brings classes of its own, which class runs where is beyond a schema
_OWN_CLASSES = {"required": ["classes"], "properties": {"classes": {"minItems": 1}}}
_ONLY_OURS = {"properties": {"servers": {"additionalProperties": {"not": _OWN_CLASSES}}}}
_OURS = {"properties": {"class": {"enum": list(CLASSES)}}}


def values_schema() -> dict[str, Any]:
    """Make the schema.

    It refuses everything that the models refuse by shape, and of the relations those that JSON
    schema can express. The others are for `milonga validate`, which the chart runs before anything
    is changed.

    Examples
    --------
    >>> sorted(values_schema()["required"])
    ['topology']
    """
    schema: dict[str, Any] = _tidy(ChartValues.model_json_schema())
    topology = schema["$defs"]["TopologyFile"]
    for name in _LISTS:
        topology["properties"][name]["maxItems"] = MAX_DEVICES
    topology["anyOf"] = [
        {"required": ["controller"]},
        {"required": ["subarrays"], "properties": {"subarrays": {"minItems": 1}}},
    ]
    topology["if"] = _ONLY_OURS
    topology["then"] = {
        "properties": {"controller": _OURS} | {name: {"items": _OURS} for name in _LISTS}
    }
    schema["$defs"]["PlanDevice"] |= _PLAN_DEVICE_CLASS
    # told apart by type, so that Helm complains about the one that was meant
    schema["properties"]["topology"] = {
        "description": "The topology file: its text, or its content.",
        "if": {"type": "string"},
        "then": {"minLength": 1},
        "else": {"$ref": "#/$defs/TopologyFile"},
    }
    # not the newest draft: what Helm 3 reads
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | schema


def _tidy(schema: Any) -> Any:
    """Leave out what only Python readers need, and say what pydantic does but does not write."""
    if isinstance(schema, list):
        return [_tidy(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    options = schema.get("anyOf", ())
    if len(options) == 2 and {"type": "null"} in options:  # noqa: PLR2004 - X or null
        # Helm takes keys with null away before it looks at the schema
        rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
        return _tidy(rest | next(option for option in options if option != {"type": "null"}))
    tidy: dict[str, Any] = {
        key: _properties(value) if key in {"properties", "$defs"} else _tidy(value)
        for key, value in schema.items()
        if key not in {"title", "default"}
    }
    if "description" in tidy:
        tidy["description"] = str(tidy["description"]).split("\n\n")[0].replace("\n", " ")
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    return tidy


def _properties(named: Mapping[str, Any]) -> dict[str, Any]:
    """Tidy what is behind names, which may themselves be such words as title or default."""
    return {name: _tidy(value) for name, value in named.items()}
