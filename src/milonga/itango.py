"""Long-running commands in an itango or IPython shell: ``%load_ext milonga.itango``.

=================================  ===============================================================
``%submit DEVICE COMMAND [JSON]``  call a command; with ``-w`` follow it to its end
``%tree [DEVICE | ID]``            trees of its commands, with progress and what they wait for
``%abort [DEVICE | ID]``           abort one command, or all that a device does
``%explain [DEVICE | ID]``         why a command failed, or what it waits for
``%tasks [DEVICE]``                the last commands of a device
``%plans [DEVICE [PLAN]]``         its plans, or what one of them takes
``%dryrun DEVICE COMMAND [JSON]``  who would get what, with nothing sent
=================================  ===============================================================

A device is a name, such as ``mid-csp/control/0``, or a variable of the shell that has a
`tango.DeviceProxy`. ``%abort`` and ``%explain`` alone mean the command that was submitted last in
this shell, whatever was looked at since; ``%tree``, ``%tasks`` and ``%plans`` alone mean the device
that was named last. The tabulator key completes devices, commands and plans.
"""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tango
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from milonga.cli._abort import abort
from milonga.cli._asking import explain, list_commands
from milonga.cli._call import call, read_argument
from milonga.cli._console import output
from milonga.cli._dry_run import dry_run
from milonga.cli._exit import error_text
from milonga.cli._finding import find_command, is_command_id
from milonga.cli._looking import full_trl
from milonga.cli._plans import plans
from milonga.cli._times import clock_time
from milonga.cli._tree import tree
from milonga.cli._tree_view import device_name
from milonga.errors import MilongaError
from milonga.lrc import LrcDevice, describe

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["MilongaMagics", "load_ipython_extension", "unload_ipython_extension"]

ABORT_TIMEOUT = 30.0
"""Seconds that `%abort` waits for the end."""

_MESSAGE_LENGTH = 40


@contextmanager
def _told() -> Iterator[None]:
    """Tell an error in a line, and let the shell go on."""
    try:
        yield
    except MilongaError as error:
        raise UsageError(error_text(error)) from error
    except tango.DevFailed as error:
        raise UsageError(describe(error)) from error


@magics_class
class MilongaMagics(Magics):
    """The commands of the shell.

    Parameters
    ----------
    shell : InteractiveShell
        The shell.
    """

    def __init__(self, shell: "InteractiveShell") -> None:
        super().__init__(shell)
        self.names = shell.user_ns
        self._devices: dict[str, LrcDevice] = {}
        self.last: tuple[str, str] | None = None
        self.viewed = ""

    @line_magic
    def submit(self, line: str) -> str | None:
        """Call a command: %submit [-w] DEVICE COMMAND [JSON | @FILE]; -w waits for its end."""
        with _told():
            before, word, after = line.strip().partition("-w")
            wait = bool(word) and not before and (not after or after[0].isspace())
            device, command, argument = self._wanted(after if wait else line, "submit")
            if wait:
                call(
                    *(device, command, argument),
                    timeout=None,
                    as_json=False,
                    tango_host=None,
                    on_accepted=lambda command_id: self._submitted(device, command_id),
                )
                return None
            link = self._devices.get(device)
            if link is None:
                link = self._devices[device] = LrcDevice(device)
            invocation = link.invoke(command, read_argument(argument))
            command_id = invocation.command_id or ""
            self._submitted(device, command_id)
            invocation.close()
            print(f"{link.name} {command}: {command_id}")  # noqa: T201 - a shell's answer
            return command_id or None

    @line_magic
    def tree(self, line: str) -> None:
        """Show trees: %tree [DEVICE | ID]; of the last device without."""
        with _told():
            device, command_id = self._view(_words(line, "tree"), "tree")
            tree(device, command_id, follow=False, as_json=False, tango_host=None)

    @line_magic
    def abort(self, line: str) -> None:
        """Abort: %abort [DEVICE | ID]; the command submitted last without."""
        with _told():
            words = _words(line, "abort")
            if not words and self.last is None:
                raise UsageError(
                    "%abort: found no command that was submitted in this shell; expected the id of"
                    " one, or a device, to abort all that it does"
                )
            device, command_id = self._place(words) if words else self.last or ("", None)
            abort(device, command_id, timeout=ABORT_TIMEOUT, as_json=False, tango_host=None)

    @line_magic
    def explain(self, line: str) -> None:
        """Say why a command failed, or what it waits for: %explain [DEVICE | ID].

        Without, the command submitted last; of a device, its latest.
        """
        with _told():
            words = _words(line, "explain")
            if not words and self.last is not None:
                device, command_id = self.last
            else:
                device, found = self._view(words, "explain")
                command_id = found or _latest(device)
            console = output()
            for text in explain(device, command_id):
                console.print(text, soft_wrap=True)

    @line_magic
    def tasks(self, line: str) -> None:
        """List the last commands: %tasks [DEVICE]."""
        with _told():
            device, _ = self._view(_words(line, "tasks"), "tasks")
            console = output()
            found = list_commands(device)
            for each in found:
                message = str(each["message"] or "").partition("\n")[0][:_MESSAGE_LENGTH]
                text = f"{clock_time(each['started'])}  {each['command']}  {each['outcome']}"
                console.print(f"{text}  {message}".rstrip(), soft_wrap=True)
                console.print(f"          {each['id']}", style="dim", soft_wrap=True)
            if not found:
                console.print(f"{device_name(device)} has no commands")

    @line_magic
    def plans(self, line: str) -> None:
        """List plans, or describe one: %plans [DEVICE [PLAN]]."""
        with _told():
            words = _words(line, "plans", most=2)
            device, _ = self._view(words[:1], "plans")
            name = words[1] if len(words) > 1 else None
            plans(device, name, as_json=False, tango_host=None)

    @line_magic
    def dryrun(self, line: str) -> None:
        """Say who would get what, and send nothing: %dryrun DEVICE COMMAND [JSON | @FILE]."""
        with _told():
            device, command, argument = self._wanted(line, "dryrun")
            dry_run(device, command, read_argument(argument), as_json=False, tango_host=None)

    def close(self) -> None:
        """Give the devices back."""
        devices, self._devices = self._devices, {}
        for device in devices.values():
            device.close()

    def device(self, text: str) -> str:
        """Return the address that a word of the shell means: a variable's device, or a name."""
        variable = self.names.get(text)
        if isinstance(variable, tango.DeviceProxy):
            host, port = variable.get_db_host(), variable.get_db_port()
            return f"tango://{host}:{port}/{variable.dev_name()}"
        return full_trl(text)

    def _submitted(self, device: str, command_id: str) -> None:
        """Take note of a command that a device has accepted."""
        if command_id:
            self.last = device, command_id

    def _wanted(self, line: str, magic: str) -> tuple[str, str, str | None]:
        """Read a device, a command, and what the rest of the line says as its argument."""
        words = line.strip().split(maxsplit=2)
        _check_words(words[:2], magic)
        if len(words) < 2:  # noqa: PLR2004 - device and command
            raise _misused(magic, line)
        self.viewed = device = self.device(words[0])
        argument = words[2].strip() if len(words) > 2 else None  # noqa: PLR2004 - and an argument
        if argument and argument[0] in "'\"":
            argument = _unquoted(argument, magic)
        return device, words[1], argument

    def _place(self, words: list[str]) -> tuple[str, str | None]:
        """Read which device or command is meant by a word."""
        (text,) = words
        if self.last is not None and text == self.last[1]:
            return self.last
        if is_command_id(text):
            return self.device(find_command(text)), text
        return self.device(text), None

    def _view(self, words: list[str], magic: str) -> tuple[str, str | None]:
        """Read what is to be looked at: what a word says, or else the device that was last."""
        place = self._place(words) if words else (self.viewed, None)
        if not place[0]:
            raise UsageError(f"%{magic}: found no device; expected one, as none was named before")
        self.viewed = place[0]
        return place


_USAGE = {
    "submit": "[-w] DEVICE COMMAND [JSON | @FILE]",
    "dryrun": "DEVICE COMMAND [JSON | @FILE]",
    "tree": "[DEVICE | ID]",
    "abort": "[DEVICE | ID]",
    "explain": "[DEVICE | ID]",
    "tasks": "[DEVICE]",
    "plans": "[DEVICE [PLAN]]",
}


def _misused(magic: str, found: str) -> UsageError:
    return UsageError(f"%{magic}: found {found.strip()!r}; expected %{magic} {_USAGE[magic]}")


def _words(line: str, magic: str, most: int = 1) -> list[str]:
    """Split a line into what the magic takes."""
    words = line.split()
    _check_words(words, magic)
    if len(words) > most:
        raise _misused(magic, line)
    return words


def _check_words(words: list[str], magic: str) -> None:
    """Refuse options: a magic's own is read before, and no device or command begins so."""
    for word in words:
        if word.startswith("-"):
            raise _misused(magic, word)


def _unquoted(argument: str, magic: str) -> str:
    """Return an argument that is written as it would be for a shell."""
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"%{magic}: argument {argument}: {error}; expected JSON") from error
    if len(words) != 1:
        raise UsageError(f"%{magic}: argument: found {len(words)} words; expected one JSON text")
    return words[0]


def _latest(device: str) -> str:
    latest = list_commands(device, 1)
    if not latest:
        raise UsageError(f"{device_name(device)}: found no command to explain")
    return str(latest[0]["id"])


# Completion

Completer = Callable[[Any, Any], list[str]]


def _completer(magics: MilongaMagics, places: tuple[str, ...]) -> Completer:
    """Return what completes the words of a magic; `places` says what each is."""

    def complete(_shell: Any, event: Any) -> list[str]:
        words = [word for word in event.line.split()[1:] if word != "-w"]
        typed = event.symbol
        place = len(words) - bool(typed and words and event.line[-1:].strip())
        kind = places[place] if place < len(places) else ""
        try:
            found = _CANDIDATES[kind](magics, words) if kind else []
        except (MilongaError, tango.DevFailed, UsageError):
            return []  # a completer must not write into the line
        return [each for each in found if each.startswith(typed)]

    return complete


def _devices(magics: MilongaMagics, words: list[str]) -> list[str]:
    typed = words[-1] if words else ""
    found = tango.Database().get_device_exported(f"{typed}*").value_string
    names = magics.names.items()
    variables = [name for name, value in names if isinstance(value, tango.DeviceProxy)]
    return [*variables, *(name for name in found if not name.startswith(("dserver/", "sys/")))]


def _commands(magics: MilongaMagics, words: list[str]) -> list[str]:
    proxy = tango.DeviceProxy(magics.device(words[0]))
    return [str(info.cmd_name) for info in proxy.command_list_query()]


def _plans(magics: MilongaMagics, words: list[str]) -> list[str]:
    return list(tango.DeviceProxy(magics.device(words[0])).command_inout("ListPlans"))


_CANDIDATES = {"device": _devices, "command": _commands, "plan": _plans}

_PLACES = {
    "submit": ("device", "command"),
    "dryrun": ("device", "command"),
    "plans": ("device", "plan"),
    "tree": ("device",),
    "abort": ("device",),
    "tasks": ("device",),
    "explain": ("device",),
}

_loaded: dict[int, MilongaMagics] = {}


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Add the commands to a shell; called by ``%load_ext milonga.itango``."""
    magics = _loaded[id(shell)] = MilongaMagics(shell)
    shell.register_magics(magics)
    for name, places in _PLACES.items():
        for key in (f"%{name}", name):
            hook: Callable[..., None] = shell.set_hook
            hook("complete_command", _completer(magics, places), str_key=key)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """Give back what the commands held."""
    magics = _loaded.pop(id(shell), None)
    if magics is not None:
        magics.close()
