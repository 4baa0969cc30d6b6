"""`--dry-run`: what a command would do, asked of the devices down the tree, with nothing sent."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import tango
from rich.text import Text
from rich.tree import Tree

from milonga.cli._console import output
from milonga.cli._exit import ExitCode
from milonga.cli._looking import beside, full_trl
from milonga.cli._tree_view import device_name
from milonga.errors import ArgumentError, Unreachable
from milonga.lrc import describe

__all__ = ["ask", "dry_run"]

_CALL_TIMEOUT = 6.0
"""Seconds that a device has to answer: more than the devices of a plan have with it."""

_MAX_LEVELS = 8
_ARGUMENT_SHOWN = 40

Told = dict[str, Any]


def dry_run(
    trl: str, command: str, argument: str | None, *, as_json: bool, tango_host: str | None
) -> ExitCode:
    """Say who would get what, what would be refused and why, and how long it should take.

    Parameters
    ----------
    trl, command, argument : str
        Device, command, and the argument as JSON text.
    as_json : bool
        Whether to write one JSON object and nothing else.
    tango_host : str or None
        ``host:port`` of the database; None for TANGO_HOST.

    Returns
    -------
    ExitCode
        OK; REJECTED if the device would refuse it; FAILED if that would happen further down.
    """
    told = ask(full_trl(trl, tango_host), command, argument)
    code = _code(told)
    if as_json:
        sys.stdout.write(json.dumps(told | {"exit_code": code}) + "\n")
    else:
        console = output()
        console.print(_drawn(trl, told))
    return code


def ask(trl: str, command: str, argument: str | None) -> Told:
    """Ask a device what a command would do, and the devices that it would call.

    Raises
    ------
    Unreachable
        If the device does not answer.
    ArgumentError
        If it cannot tell, as it has no command DryRun.
    """
    try:
        told = _asked(trl, command, argument)
    except tango.DevFailed as error:
        raise Unreachable(f"{device_name(trl)}: {describe(error)}") from error
    if told is None:
        raise ArgumentError(
            f"{device_name(trl)}: found no command DryRun; expected a Milonga device with one"
        )
    _ask_below(trl, told, 1)
    return told


def _asked(trl: str, command: str, argument: str | None) -> Told | None:
    proxy = tango.DeviceProxy(trl)
    proxy.set_timeout_millis(round(_CALL_TIMEOUT * 1000))
    request = json.dumps({"command": command, "argument": argument})
    try:
        text = proxy.command_inout("DryRun", request)
    except tango.DevFailed as error:
        if error.args[0].reason == "API_CommandNotFound":
            return None
        raise
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _ask_below(trl: str, told: Told, level: int) -> None:
    """Add what the devices below say; of one that is not Milonga's nothing more is known."""
    if level > _MAX_LEVELS:
        return
    for call in _all_calls(told):
        if call.get("type") != "device" or call.get("not_sent") or call.get("problem"):
            continue
        address = beside(trl, call["target"])
        try:
            below = _asked(address, call["command"], call.get("argument"))
        except tango.DevFailed as error:
            call["problem"] = f"does not answer: {describe(error)}"
            continue
        if below is not None:
            call["below"] = below
            _ask_below(address, below, level + 1)


def _all_calls(told: Told) -> Iterator[Told]:
    """Yield the calls, each followed by what a plan would ask for in its course."""
    for call in told.get("calls", ()):
        yield call
        yield from call.get("steps", ())


def _code(told: Told) -> ExitCode:
    if not told.get("accepted"):
        return ExitCode.REJECTED
    return ExitCode.OK if _is_good(told) else ExitCode.FAILED


def _is_good(told: Told) -> bool:
    return bool(told.get("accepted")) and all(
        not call.get("problem") and ("below" not in call or _is_good(call["below"]))
        for call in _all_calls(told)
    )


def _drawn(trl: str, told: Told) -> Tree:
    head = Text(f"dry run: {device_name(trl)} {told.get('command')}", style="bold")
    head.append("  nothing was sent", style="dim")
    if told.get("expected") is not None:
        head.append(f"  it should take {told['expected']:.1f} s", style="dim")
    behind = told.get("queued_behind")
    if behind:
        head.append(f"  queued behind {behind['command']} ({behind['ahead']} ahead)", style="cyan")
    tree = Tree(head, guide_style="dim")
    _draw(tree, told)
    return tree


def _draw(tree: Tree, told: Told) -> None:
    for refusal in told.get("refusals", ()):
        tree.add(Text(f"refused ({refusal.get('kind')}): {refusal.get('text')}", style="magenta"))
    for call in told.get("calls", ()):
        _draw_call(tree, call)
    for child in told.get("left_out", ()):
        tree.add(Text(f"left out: {child.get('child')}: {child.get('why')}", style="yellow"))


def _draw_call(tree: Tree, call: Told) -> None:
    branch = tree.add(_line(call))
    for device in call.get("devices", ()):
        problem = f"  would fail: {device['problem']}" if device.get("problem") else ""
        text = Text(f"uses {device.get('name')} ({device_name(str(device.get('target')))})")
        branch.add(text.append(problem, style="red"))
    for step in call.get("steps", ()):
        _draw_call(branch, step)
    if call.get("more"):
        branch.add(Text(f"and more: {call['more']}", style="dim"))
    if "below" in call:
        _draw(branch, call["below"])


def _line(call: Told) -> Text:
    text = Text(f"{call.get('target')} {call.get('command')}")
    argument = call.get("argument")
    if argument:
        short = argument if len(argument) <= _ARGUMENT_SHOWN else f"{argument[:_ARGUMENT_SHOWN]}…"
        text.append(f" {' '.join(short.split())}", style="dim")
    if call.get("times", 1) > 1:
        text.append(f"  {call['times']} times", style="dim")
    if call.get("expected") is not None:
        text.append(f"  {call['expected']:.1f} s", style="dim")
    if call.get("until"):
        text.append(f"  until {call['until']}", style="dim")
    if call.get("not_sent"):
        text.append(f"  not sent: {call['not_sent']}", style="yellow")
    if call.get("problem"):
        text.append(f"  would fail: {call['problem']}", style="red")
    return text
