"""Calling a command of a device and following it to its end, from any Python program.

It needs a Tango device with long-running commands, protocol version 2 or 1, Milonga's or
anybody's, and nothing else of Milonga. With ``kind="auto"`` it calls devices without them, too.

Connections are kept for the next call, and closed when the process ends.

Examples
--------
Wait for the end, and see how it goes on::

    from milonga.lrc import client

    outcome = client.run("mid-csp/subarray/01", "Configure", {"id": 1}, timeout=30.0,
                         on_progress=print)
    print(outcome.is_ok, outcome.message)

Follow many at a time, in asyncio::

    async def on(trl):
        async for update in client.afollow(trl, "On", timeout=30.0):
            print(trl, update.status, update.progress)
        return update.outcome

    outcomes = await asyncio.gather(*(on(trl) for trl in trls))

It can be tried from a shell, with the resource locator of any device that has the command::

    python -m milonga.lrc.client tango://127.0.0.1:10000/mid-csp/control/0 On
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

from milonga.control_model import TaskStatus, is_final
from milonga.errors import ArgumentError, CommandTimeout, MilongaError, Unreachable
from milonga.lrc._child import ChildKind
from milonga.lrc._expectation import Expectation
from milonga.lrc._invocation import Invocation, OnUpdate, Outcome
from milonga.lrc._kept import kept_devices

__all__ = ["Update", "afollow", "arun", "run", "submit"]

PATIENCE = 12.0
"""Seconds that a device has to take a command."""

Argument = str | Mapping[str, object] | list[object] | float | bool | None
"""A text goes to the device as it is; everything else as JSON."""


@dataclass(frozen=True, slots=True)
class Update:
    """Something new about a command.

    Parameters
    ----------
    status : TaskStatus, optional
        What its status has become.
    progress : int or str, optional
        How far it is.
    result : object, optional
        What the device sent as its result.
    outcome : Outcome, optional
        What became of it; only in the last update.
    """

    status: TaskStatus | None = None
    progress: object = None
    result: object = None
    outcome: Outcome | None = None


def submit(
    trl: str,
    command: str,
    argument: Argument = None,
    *,
    on_update: OnUpdate | None = None,
    kind: ChildKind | str = ChildKind.LRC,
    until: Expectation | None = None,
    timeout: float | None = None,
) -> Invocation:
    """Send a command and wait until the device has taken it, but not for its end.

    Parameters
    ----------
    trl : str
        The device's Tango resource locator, such as ``mid-csp/control/0``.
    command : str
        The command.
    argument : optional
        Its argument: a text as it is, anything else as JSON.
    on_update : callable, optional
        Called from any thread with any of the keywords ``status``, ``progress``, ``result``.
    kind : ChildKind or str, optional
        How the command is followed; "auto" also takes devices without long-running commands.
    until : Expectation, optional
        What the device looks like when the work is over: beside the result of the command, or in
        its place at a device without long-running commands.
    timeout : float, optional
        Seconds that the device has to take the command (12 otherwise), and that a command of
        kind "plain" may take to return (60 otherwise).

    Returns
    -------
    Invocation
        To ``wait`` for, to ``abort``, to ``close``.

    Raises
    ------
    ArgumentError
        If the argument cannot be written as JSON.
    CommandRejected
        If the device refused the command.
    Unreachable
        If the device does not answer.
    ProtocolError
        If it offers no long-running commands, or answers in another form.
    """
    kind = ChildKind.AUTO if until is not None and kind == ChildKind.LRC else ChildKind(kind)
    text = _text(argument)
    with kept_devices.lent(trl) as device:
        invocation = device.start(command, text, on_update, timeout=timeout, kind=kind, until=until)
    patience = PATIENCE if timeout is None else min(timeout, PATIENCE)
    if not invocation.wait_accepted(patience):
        invocation.close()
        raise Unreachable(f"{trl}: {command} was not taken within {patience:g} s")
    return invocation.taken(0.0)


def run(
    trl: str,
    command: str,
    argument: Argument = None,
    *,
    timeout: float | None = None,
    on_progress: Callable[[object], object] | None = None,
    kind: ChildKind | str = ChildKind.LRC,
    until: Expectation | None = None,
) -> Outcome:
    """Send a command and wait for its end. A command that fails is an outcome, not an exception.

    Parameters
    ----------
    trl, command, argument, kind, until
        As for `submit`.
    timeout : float, optional
        Seconds to wait for the end; for ever if not given (a plain command: 60).
    on_progress : callable, optional
        Called with each progress, a number as a rule, from any thread.

    Returns
    -------
    Outcome
        What became of it.

    Raises
    ------
    CommandTimeout
        If it has not ended in time. It goes on at the device.
    ArgumentError, CommandRejected, Unreachable, ProtocolError
        As `submit` does.
    """
    began = time.monotonic()
    on_update = None if on_progress is None else partial(_tell_progress, on_progress)
    invocation = submit(
        trl, command, argument, on_update=on_update, kind=kind, until=until, timeout=timeout
    )
    outcome = invocation.wait(_left(began, timeout))
    if outcome is None:
        invocation.close()
        raise _late(invocation, timeout)
    return outcome


async def arun(
    trl: str,
    command: str,
    argument: Argument = None,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - as for `run`; the error names the command
    on_progress: Callable[[object], object] | None = None,
    kind: ChildKind | str = ChildKind.LRC,
    until: Expectation | None = None,
) -> Outcome:
    """Do what `run` does, in asyncio; `on_progress` is called in the event loop.

    A task that is cancelled stops following the command, which goes on at the device.
    """
    updates = afollow(trl, command, argument, timeout=timeout, kind=kind, until=until)
    async with aclosing(updates) as following:
        async for update in following:
            if update.progress is not None and on_progress is not None:
                on_progress(update.progress)
            if update.outcome is not None:
                return update.outcome
    raise AssertionError("unreachable: the last update has an outcome")


async def afollow(
    trl: str,
    command: str,
    argument: Argument = None,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - as for `run`; the error names the command
    kind: ChildKind | str = ChildKind.LRC,
    until: Expectation | None = None,
) -> AsyncGenerator[Update, None]:
    """Send a command and yield what is new, the outcome last; parameters and errors as for `run`.

    Leaving the loop early stops following the command, which goes on at the device.

    Yields
    ------
    Update
        What is new.
    """
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Update] = asyncio.Queue()

    def told(command_id: str | None = None, **news: object) -> None:  # noqa: ARG001 - known already
        if not news:
            return
        with suppress(RuntimeError):  # the loop has ended, so nobody listens
            loop.call_soon_threadsafe(queue.put_nowait, _update(news))

    send = partial(
        submit, trl, command, argument, on_update=told, kind=kind, until=until, timeout=timeout
    )
    invocation = await asyncio.to_thread(send)
    try:
        while True:
            try:
                update = await asyncio.wait_for(queue.get(), _left(began, timeout))
            except TimeoutError:
                raise _late(invocation, timeout) from None
            if update.status is not None and is_final(update.status):
                break
            yield update
        # The update comes a moment before the invocation counts as done.
        outcome = invocation.outcome() or await asyncio.to_thread(invocation.wait, PATIENCE)
        yield replace(update, outcome=outcome)
    finally:
        invocation.close()


def _text(argument: Argument) -> str | None:
    if argument is None or isinstance(argument, str):
        return argument
    try:
        return json.dumps(argument, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"argument: found {argument!r:.80}, expected a text or what JSON can write: {error}"
        ) from error


def _tell_progress(on_progress: Callable[[object], object], **news: object) -> None:
    if "progress" in news:
        on_progress(news["progress"])


def _update(news: Mapping[str, object]) -> Update:
    status = news.get("status")
    return Update(
        status if isinstance(status, TaskStatus) else None,
        news.get("progress"),
        news.get("result"),
    )


def _left(began: float, timeout: float | None) -> float | None:
    return None if timeout is None else max(0.0, began + timeout - time.monotonic())


def _late(invocation: Invocation, timeout: float | None) -> CommandTimeout:
    return CommandTimeout(
        f"{invocation.device}/{invocation.command} ({invocation.command_id}) has not ended within"
        f" {timeout:g} s; it goes on at the device"
    )


def _main() -> int:
    parser = argparse.ArgumentParser(description="Call a command of a device and follow it.")
    parser.add_argument("trl")
    parser.add_argument("command")
    parser.add_argument("argument", nargs="?")
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--kind", default="auto", choices=list(ChildKind))
    given = parser.parse_args()
    try:
        outcome = run(
            given.trl,
            given.command,
            given.argument,
            timeout=given.timeout,
            kind=given.kind,
            on_progress=lambda progress: sys.stdout.write(f"{progress}\n"),
        )
    except MilongaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{outcome.status.name} {outcome.result_code.name}: {outcome.message}\n")
    return 0 if outcome.is_ok else 1


if __name__ == "__main__":
    sys.exit(_main())
