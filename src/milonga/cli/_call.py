"""`milonga call`: one command, followed to its end."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from milonga.cli._console import messages, output
from milonga.cli._dry_run import dry_run
from milonga.cli._exit import ExitCode, error_text, exit_code_of_error, exit_code_of_outcome
from milonga.cli._looking import LOOK_EVERY, TreeReader, full_trl
from milonga.cli._tree_view import Painter, SilentPainter, culprits, painter
from milonga.errors import ArgumentError, MilongaError
from milonga.lrc import Invocation, LrcDevice, Outcome

__all__ = ["call", "follow", "read_argument"]


def call(
    trl: str,
    command: str,
    argument: str | None,
    *,
    timeout: float | None,
    as_json: bool,
    tango_host: str | None,
    dry: bool = False,
    on_accepted: Callable[[str], None] = lambda _: None,
) -> ExitCode:
    """Call a command and follow it; say how it ended.

    Parameters
    ----------
    trl, command, argument : str
        Device, command, and the argument as typed: JSON, ``@file`` or ``-``.
    timeout : float or None
        Seconds to follow it; None for as long as it takes.
    as_json : bool
        Whether to write one JSON object and nothing else.
    tango_host : str or None
        ``host:port`` of the database; None for TANGO_HOST.
    dry : bool
        Whether to send nothing and say what would be sent.
    on_accepted : callable, optional
        Called with the command's id, once the device has given it one.
    """
    console = output()
    try:
        text = read_argument(argument)
        if dry:
            return dry_run(trl, command, text, as_json=as_json, tango_host=tango_host)
        address = full_trl(trl, tango_host)
        with LrcDevice(address) as device:
            invocation = device.invoke(command, text)
            on_accepted(invocation.command_id or "")
            return _follow(device.trl, invocation, timeout, None if as_json else console)
    except MilongaError as error:
        if not as_json:
            raise
        code = exit_code_of_error(error)
        told = {"device": trl, "command": command, "error": error_text(error)}
        _print_json(told | {"exit_code": code})
        return code


def _follow(
    trl: str, invocation: Invocation, timeout: float | None, console: Console | None
) -> ExitCode:
    reader = TreeReader()
    shown: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        shown.update(reader.read(trl, invocation.command_id or ""))
        return shown

    painting = SilentPainter() if console is None else painter(console)
    try:
        outcome = follow(invocation, look, painting, timeout)
    except KeyboardInterrupt:
        _tell_unfinished(invocation, "stopped following", ExitCode.INTERRUPTED, console)
        return ExitCode.INTERRUPTED
    finally:
        invocation.close()
    if outcome is None:
        _tell_unfinished(invocation, f"no end within {timeout:g} s", ExitCode.TIMEOUT, console)
        return ExitCode.TIMEOUT
    return _tell(outcome, culprits(shown) if shown else [], console)


def follow(
    invocation: Invocation,
    look: Callable[[], dict[str, Any]],
    painting: Painter,
    timeout: float | None,
) -> Outcome | None:
    """Show a command until it ends.

    Parameters
    ----------
    invocation : Invocation
        The command.
    look : callable
        Gives the command's tree as it stands; empty if there is none.
    painting : Painter
        Shows it.
    timeout : float or None
        Seconds to follow it.

    Returns
    -------
    Outcome or None
        None if it did not end in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with painting:
        while True:
            left = LOOK_EVERY if deadline is None else deadline - time.monotonic()
            outcome = invocation.wait(max(0.0, min(LOOK_EVERY, left)))
            snapshot = look()
            if snapshot:
                painting.show(snapshot)
            if outcome is not None or left <= 0:
                return outcome


def read_argument(argument: str | None) -> str | None:
    """Find the JSON text that the user means.

    Parameters
    ----------
    argument : str or None
        JSON, ``@file`` or ``-`` for standard input.

    Raises
    ------
    ArgumentError
        If the file cannot be read, or the text is not JSON.
    """
    if argument is None:
        return None
    source = "argument"
    text = argument
    try:
        if argument == "-":
            source, text = "standard input", sys.stdin.read()
        elif argument.startswith("@"):
            source = argument[1:]
            text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"{source} cannot be read: {reason}") from error
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter if it is nested too deep
        raise ArgumentError(f"{source}: {error}; expected JSON, @file or -") from error
    return text


def _tell(outcome: Outcome, names: list[str], console: Console | None) -> ExitCode:
    code = exit_code_of_outcome(outcome.status, outcome.result_code)
    if console is None:
        _print_json(
            {
                "device": outcome.device,
                "command": outcome.command,
                "command_id": outcome.command_id,
                "status": outcome.status.name,
                "result_code": outcome.result_code.name,
                "message": outcome.message,
                "result": outcome.result,
                "culprits": names,
                "seconds": round(outcome.seconds, 3),
                "exit_code": code,
            }
        )
    else:
        console.print(
            f"{outcome.device} {outcome.command}: {outcome.status.name} "
            f"{outcome.result_code.name} in {outcome.seconds:.2f} s: {outcome.message}",
            soft_wrap=True,
        )
    return code


def _tell_unfinished(
    invocation: Invocation, why: str, code: ExitCode, console: Console | None
) -> None:
    text = f"{why}; the command goes on: {invocation.command} {invocation.command_id}"
    if console is None:
        _print_json(
            {
                "device": invocation.device,
                "command": invocation.command,
                "command_id": invocation.command_id,
                "error": text,
                "exit_code": code,
            }
        )
    else:
        messages().print(text, soft_wrap=True)


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()
