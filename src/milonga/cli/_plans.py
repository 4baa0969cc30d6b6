"""`milonga plans` and `milonga run`: the plans of a device, and one of them followed to its end."""

import json
import sys
from typing import Any

import tango
from rich.console import Console
from rich.table import Table

from milonga.cli._call import call, read_argument
from milonga.cli._console import output
from milonga.cli._exit import ExitCode
from milonga.cli._looking import full_trl
from milonga.cli._tree_view import device_name
from milonga.errors import ArgumentError, PlanNotFound, Unreachable
from milonga.lrc import describe

__all__ = ["plans", "run"]


def plans(trl: str, name: str | None, *, as_json: bool, tango_host: str | None) -> ExitCode:
    """List the plans of a device, or describe one of them.

    Parameters
    ----------
    trl : str
        The device.
    name : str or None
        Which plan; None for a list of all.
    as_json : bool
        Whether to write one JSON value and nothing else.
    tango_host : str or None
        ``host:port`` of the database; None for TANGO_HOST.

    Raises
    ------
    PlanNotFound
        If the device has no plan of that name, or runs no plans at all.
    Unreachable
        If the device does not answer.
    """
    proxy = _proxy(full_trl(trl, tango_host))
    console = output()
    if name is not None:
        description = _described(proxy, trl, name)
        if as_json:
            _write(description)
        else:
            _show(console, description)
        return ExitCode.OK
    found = [_described(proxy, trl, each) for each in _listed(proxy, trl)]
    if as_json:
        _write(found)
        return ExitCode.OK
    table = Table(box=None, pad_edge=False)
    for heading in ("plan", "arguments", "what it does"):
        table.add_column(heading, overflow="fold")
    for each in found:
        docs = str(each["docs"]).strip().partition("\n")[0]
        table.add_row(each["name"], " ".join(_signature(each)), docs)
    console.print(table if found else f"{device_name(trl)} has no plans")
    return ExitCode.OK


def run(
    trl: str,
    plan: str,
    arguments: str | None,
    *,
    queue: bool,
    limit: float | None,
    timeout: float | None,
    as_json: bool,
    tango_host: str | None,
    dry: bool = False,
) -> ExitCode:
    """Run a plan and follow it; say how it ended.

    Parameters
    ----------
    trl, plan : str
        The device and the name of the plan.
    arguments : str or None
        What the plan takes, as typed: a JSON object, ``@file`` or ``-``.
    queue : bool
        Whether it may wait for another plan.
    limit : float or None
        Seconds after which the device aborts it; None for what the device says.
    timeout, as_json, tango_host, dry : optional
        As for `call`.
    """
    given = json.loads(read_argument(arguments) or "{}")
    if not isinstance(given, dict):
        raise ArgumentError(f"arguments: found {given!r}; expected a JSON object")
    request: dict[str, Any] = {"plan": plan, "arguments": given}
    if queue:
        request["on_busy"] = "queue"
    if limit is not None:
        request["timeout"] = limit
    text = json.dumps(request)
    return call(
        trl, "RunPlan", text, timeout=timeout, as_json=as_json, tango_host=tango_host, dry=dry
    )


def _proxy(trl: str) -> tango.DeviceProxy:
    try:
        return tango.DeviceProxy(trl)
    except tango.DevFailed as error:
        raise Unreachable(f"{device_name(trl)}: {describe(error)}") from error


def _listed(proxy: tango.DeviceProxy, trl: str) -> list[str]:
    return list(_asked(proxy, trl, "ListPlans") or ())


def _described(proxy: tango.DeviceProxy, trl: str, name: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads(_asked(proxy, trl, "DescribePlan", name))
    return description


def _asked(proxy: tango.DeviceProxy, trl: str, command: str, *argument: str) -> Any:
    try:
        return proxy.command_inout(command, *argument)
    except tango.DevFailed as error:
        reason = error.args[0].reason
        if reason == "PlanNotFound":
            raise PlanNotFound(f"{device_name(trl)}: {error.args[0].desc}") from error
        if reason == "API_CommandNotFound":
            raise PlanNotFound(f"{device_name(trl)}: found a device that runs no plans") from error
        raise Unreachable(f"{device_name(trl)}: {describe(error)}") from error


def _signature(description: dict[str, Any]) -> list[str]:
    schema = description["schema"]
    required = schema.get("required", ())
    return [name if name in required else f"[{name}]" for name in schema.get("properties", {})]


def _show(console: Console, description: dict[str, Any]) -> None:
    console.print(description["name"], style="bold")
    console.print(description["docs"] or "(not documented)")
    schema = description["schema"]
    table = Table(box=None, pad_edge=False)
    for heading in ("argument", "type", "default"):
        table.add_column(heading)
    for name, kind in schema.get("properties", {}).items():
        needed = name in schema.get("required", ())
        table.add_row(name, _kind(kind), "" if needed else json.dumps(kind.get("default")))
    console.print()
    console.print(table if table.rows else "takes no arguments")
    for action in description["actions"]:
        states = " / ".join(action["toggle_states"]) if action["togglable"] else "momentary"
        text = f"action {action['name']} ({states}): {action['description']}"
        console.print(text)


def _kind(schema: dict[str, Any]) -> str:
    """Say in a few words what a schema takes.

    Examples
    --------
    >>> _kind({"type": "array", "items": {"enum": ["det", "cam"]}})
    'list of det | cam'
    """
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
