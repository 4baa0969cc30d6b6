"""`milonga tree --follow`: trees as they change, through outages, to a command's end."""

import sys
import time
from collections.abc import Callable

import tango
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from milonga.cli._console import output
from milonga.cli._exit import ExitCode, exit_code_of_outcome
from milonga.cli._looking import HOLD_OFF, LOOK_EVERY, command_status, finished_result
from milonga.cli._recorded import recorded_command, recorded_end
from milonga.cli._tree_view import device_name, is_over, pruned
from milonga.cli._trees import Document, read_trees, shown, write
from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.errors import ArgumentError, CommandRejected, ProtocolError, Unreachable
from milonga.lrc import describe
from milonga.lrc import task_tree as trees

__all__ = ["Looking", "code_of_command", "follow"]

_LINES_BESIDE = 8  # what a command waits for, and notes

UNKNOWN_FOR = 10.0
"""Seconds until a command is given up that its device does not know: it may be starting."""


class Looking:
    """A device's trees, looked at again and again. What was known stays through an outage.

    Parameters
    ----------
    trl : str
        The device.
    document : dict
        Its trees as they were at first.
    command_id : str or None
        The one command that is followed; None for all.
    store : str or None
        Path or URL of the records; None for the usual ones.
    wait : callable, optional
        Lets seconds pass.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(
        self,
        trl: str,
        document: Document,
        command_id: str | None,
        store: str | None = None,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.document = document
        self.trouble = ""
        self._trl = trl
        self._command_id = command_id
        self._store = store
        self._wait = wait
        self._clock = clock
        self._unknown_since: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is one command, and it has ended."""
        return self._command_id is not None and is_over(self.document["commands"][0])

    @property
    def code(self) -> ExitCode:
        """What to end with: of one command, what its outcome says."""
        if self._command_id is None:
            return ExitCode.OK
        return code_of_command(self.document["commands"][0])

    def look(self) -> str:
        """Look again, after a while; return what is to be told: a loss, or its end.

        Raises
        ------
        CommandRejected
            If the command is not known any more, and nobody knows how it ended.
        """
        self._wait(HOLD_OFF if self.trouble else LOOK_EVERY)
        before = self.trouble
        try:
            self.document = self._of_command(read_trees(self._trl))
            self.trouble = ""
        except (
            Unreachable,
            ArgumentError,
            ProtocolError,
        ) as error:  # or what it tells is no tree, for now
            self.trouble = str(error)
        if bool(before) is bool(self.trouble):
            return ""
        return self.trouble or f"{device_name(self._trl)} answers again"

    def _of_command(self, document: Document) -> Document:
        if self._command_id is None:
            return document
        node = trees.find_command(document, self._command_id)
        if node is None:
            node = self._not_shown(self._command_id)
        else:
            self._unknown_since = None
        return document | {"commands": [node]}

    def _not_shown(self, command_id: str) -> Document:
        """Find out what became of a command that the device shows no more."""
        recorded = recorded_command(command_id, self._store)
        if recorded is not None and is_over(recorded):
            return recorded
        known: Document = self.document["commands"][0]
        try:
            proxy = tango.DeviceProxy(self._trl)
            status = command_status(proxy, command_id)
            if is_final(status):
                return known | {"status": status.name} | finished_result(proxy, command_id)
            if status is TaskStatus.NOT_FOUND:
                ended = recorded_end(proxy, command_id)
                if ended:
                    return known | ended
        except tango.DevFailed as error:
            raise Unreachable(f"{device_name(self._trl)}: {describe(error)}") from error
        if status is TaskStatus.NOT_FOUND:
            self._give_up(command_id)
        return known

    def _give_up(self, command_id: str) -> None:
        """Follow no more, after a while: who restarts writes down what it has lost."""
        now = self._clock()
        if self._unknown_since is None:
            self._unknown_since = now
        if now - self._unknown_since > UNKNOWN_FOR:
            raise CommandRejected(
                f"{device_name(self._trl)}: command: {command_id!r} is not known there any more;"
                " how it ended is not known"
            )


def code_of_command(node: Document) -> ExitCode:
    """Say what to end with, of a command that is followed and over."""
    status = TaskStatus.__members__.get(node.get("status", ""), TaskStatus.NOT_FOUND)
    code = ResultCode.__members__.get(node.get("result_code") or "", ResultCode.UNKNOWN)
    return exit_code_of_outcome(status, code)


def follow(looking: Looking, *, as_json: bool) -> ExitCode:
    """Show the trees until the one command has ended, or Ctrl-C.

    Parameters
    ----------
    looking : Looking
        Has them.
    as_json : bool
        Whether to write the document as a line of JSON each time.
    """
    console = output()
    if as_json:
        return _as_lines(looking)
    return _live(looking, console) if console.is_terminal else _in_pipe(looking, console)


def _live(looking: Looking, console: Console) -> ExitCode:
    with Live(console=console, auto_refresh=False) as live:
        live.update(_fitting(looking, console), refresh=True)
        while not looking.is_done:
            looking.look()
            live.update(_fitting(looking, console), refresh=True)
    return looking.code


def _fitting(looking: Looking, console: Console) -> RenderableType:
    """Draw the commands so that they fit a terminal: those that ended before, in a line each."""
    *before, latest = looking.document["commands"] or [None]
    lines = [node if not is_over(node) else pruned(node, 1) for node in before]
    room = console.height - len(lines) - _LINES_BESIDE
    commands = [*lines, *([pruned(latest, room)] if latest is not None else [])]
    note = [Text(looking.trouble, style="red")] if looking.trouble else []
    return Group(shown(looking.document | {"commands": commands}, console), *note)


def _in_pipe(looking: Looking, console: Console) -> ExitCode:
    """Write the trees again whenever they have changed."""
    console.print(shown(looking.document, console))
    while not looking.is_done:
        before = looking.document
        told = looking.look()
        if told:
            console.print(told, soft_wrap=True)
        if looking.document["commands"] != before["commands"]:
            console.print()
            console.print(shown(looking.document, console))
    return looking.code


def _as_lines(looking: Looking) -> ExitCode:
    write(looking.document)
    while not looking.is_done:
        before = looking.document
        told = looking.look()
        if told:
            sys.stderr.write(f"{told}\n")
        if looking.document["commands"] != before["commands"]:
            write(looking.document)
    return looking.code
