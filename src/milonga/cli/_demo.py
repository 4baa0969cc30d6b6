"""`milonga demo`: the story, played on a real database and real device servers."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tango
from rich.console import Console
from rich.table import Table

from milonga.cli._call import follow, read_argument
from milonga.cli._exit import ExitCode
from milonga.cli._looking import TreeReader
from milonga.cli._nudges import Nudger
from milonga.cli._story import STORY, Chapter, Expected, Step, deviation, expected_words
from milonga.cli._tree_view import culprits, painter
from milonga.control_model import TaskStatus
from milonga.deploy import System, Topology, ending_signals_interrupt, examples_folder
from milonga.errors import CommandRejected, MilongaError
from milonga.lrc import Invocation, LrcDevice, Outcome

__all__ = ["Row", "demo", "deviation"]

_STEP_TIMEOUT = 20.0


@dataclass(frozen=True)
class Row:
    """What came of one command of the story.

    Parameters
    ----------
    device, command : str
        Tango name and command.
    status, result_code : str
        Names, or a word for what happened instead.
    seconds : float
        From the call to the end.
    culprits : tuple of str
        Tango names of the devices that the tree shows as the cause.
    message : str
        The result's message.
    deviation : str
        What was not as the story expects; empty if all was.
    """

    device: str
    command: str
    status: str
    result_code: str
    seconds: float
    culprits: tuple[str, ...]
    message: str
    deviation: str


def demo(*, data_folder: Path, log_folder: Path | None = None) -> ExitCode:
    """Play the story; say whether everything happened as it tells.

    Parameters
    ----------
    data_folder : Path
        Where the documents of the plans' runs go.
    log_folder : Path or None
        Where to keep the servers' logs; None: nowhere.
    """
    os.environ["MILONGA_DATA"] = str(data_folder.absolute())  # the servers inherit it
    console = Console(highlight=False)
    example = examples_folder() / "mid-csp"
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(text, style="dim", markup=False, soft_wrap=True)

    system = System(Topology.load(example / "topology.yaml"), log_folder=log_folder, tell=tell)
    with ending_signals_interrupt():
        try:
            system.start()
            tell(f"running after {time.monotonic() - began:.1f} s")
            player = _Player(system, example, console)
            rows = player.play(STORY)
        finally:
            system.stop()
    console.print()
    names = {entry.device: entry.name for entry in system.topology.devices}
    console.print(_table(rows, names))
    for uid, plan in player.runs.items():
        tell(f"run of {plan}: {data_folder.absolute() / uid}.jsonl")
    for found in player.findings:
        tell(found)
    deviations = [row for row in rows if row.deviation]
    for row in deviations:
        text = f"{row.device} {row.command}: {row.deviation}"
        console.print(text, style="red", markup=False, soft_wrap=True)
    verdict = f"{len(deviations)} deviations from the story" if deviations else "all as expected"
    tell(f"{len(rows)} commands, {verdict}; {time.monotonic() - began:.1f} s; nothing left running")
    return ExitCode.FAILED if deviations else ExitCode.OK


class _Player:
    """Plays a story on a running system."""

    def __init__(self, system: System, folder: Path, console: Console) -> None:
        self._system = system
        self._folder = folder
        self._console = console
        self._rows: list[Row] = []
        self._devices: dict[str, LrcDevice] = {}
        self.runs: dict[str, str] = {}
        self.findings: list[str] = []

    def play(self, story: Sequence[Chapter]) -> list[Row]:
        with ExitStack() as stack:
            for name in {step.device for chapter in story for step in chapter.steps}:
                device = LrcDevice(self._system.trl(name))
                self._devices[name] = stack.enter_context(device)
            for chapter in story:
                self._console.print()
                self._console.rule(f"[bold]{chapter.title}", align="left")
                for step in chapter.steps:
                    self._play_step(step)
        return self._rows

    def _play_step(self, step: Step) -> None:
        argument = read_argument(f"@{self._folder / step.argument}" if step.argument else None)
        if step.request:
            argument = json.dumps(step.request)
        device = self._devices[step.device]
        began = time.monotonic()
        self._console.print(f"\n[bold]{step.title}[/] on {device.name}")
        with self._scripted(step):
            try:
                nudger = Nudger(device.trl, step.nudges, step.plan)
                invocation = device.invoke(step.command, argument)
                self._follow(step, device, invocation, nudger)
            except MilongaError as error:
                word = "REJECTED" if isinstance(error, CommandRejected) else type(error).__name__
                self._note(
                    Row(device.name, step.title, word, "-", time.monotonic() - began, (),
                        str(error), f"expected {expected_words(step.expected)}: {error}")
                )  # fmt: skip

    def _follow(
        self, step: Step, device: LrcDevice, invocation: Invocation, nudger: Nudger
    ) -> None:
        reader = TreeReader()
        tree: dict[str, Any] = {}
        aborts: list[Invocation] = []

        def look() -> dict[str, Any]:
            tree.update(reader.read(device.trl, invocation.command_id or ""))
            self._tell(nudger.look())
            if step.abort is not None and not aborts and _all_run(tree):
                aborts.append(device.invoke("Abort"))
            return tree

        outcome = follow(invocation, look, painter(self._console), _STEP_TIMEOUT)
        row = self._row(invocation, outcome, tree, step.expected)
        self._note(replace(row, command=step.title, deviation=row.deviation or nudger.missed))
        for node in tree.get("children", ()):
            self.runs |= dict.fromkeys(node.get("run_uids", ()), str(node.get("name")))
            if node.get("summary"):
                self.findings.append(f"{node.get('name')}: {node['summary']}")
            for file in node.get("outputs", ()):
                path = str(file.get("href")).removeprefix("file://")
                self.findings.append(f"{file.get('type')} of {node.get('name')}: {path}")
        if step.abort is not None:
            self._note_abort(step.abort, device, aborts)

    def _note_abort(self, expected: Expected, device: LrcDevice, sent: list[Invocation]) -> None:
        for abort in sent:
            self._note(self._row(abort, abort.wait(_STEP_TIMEOUT), {}, expected))
        if not sent:
            text = "never sent: the command was not seen running on all leaves"
            self._note(Row(device.name, "Abort", "-", "-", 0.0, (), "", text))

    def _row(
        self,
        invocation: Invocation,
        outcome: Outcome | None,
        tree: dict[str, Any],
        expected: Expected,
    ) -> Row:
        names = {entry.name: entry.device for entry in self._system.topology.devices}
        wanted = {names.get(name, name) for name in expected.culprits}
        found = tuple(culprits(tree)) if tree else ()
        if outcome is None:
            text = f"expected {expected_words(expected)}, found no end in {_STEP_TIMEOUT:g} s"
            return Row(
                invocation.device, invocation.command, "-", "-", _STEP_TIMEOUT, found, "", text
            )
        return Row(
            invocation.device,
            invocation.command,
            outcome.status.name,
            outcome.result_code.name,
            outcome.seconds,
            found,
            outcome.message,
            deviation(
                outcome.status, outcome.result_code, outcome.message, found, expected, wanted
            ),
        )

    def _tell(self, text: str) -> None:
        if text:
            self._console.print(f"  {text}", style="cyan", markup=False, soft_wrap=True)

    def _note(self, row: Row) -> None:
        self._rows.append(row)
        style = "red" if row.deviation else "green"
        text = (
            f"{row.command}: {row.status} {row.result_code} in {row.seconds:.2f} s: {row.message}"
        )
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def _scripted(self, step: Step) -> Iterator[None]:
        """Change the scripts of leaves, and put them back."""
        before: list[tuple[tango.DeviceProxy, str]] = []
        try:
            for name, entry in step.scripts.items():
                proxy = tango.DeviceProxy(self._system.trl(name))
                text = proxy.read_attribute("script").value
                before.append((proxy, text))
                script = json.loads(text or "{}") | {step.command: dict(entry)}
                _write_script(proxy, json.dumps(script))
                self._console.print(
                    f"{name} is told: {json.dumps(dict(entry))}", style="dim", markup=False
                )
            yield
        finally:
            for proxy, text in before:
                _write_script(proxy, text)


def _all_run(tree: dict[str, Any]) -> bool:
    children = tree.get("children") or []
    if not children:
        return tree.get("status") == TaskStatus.IN_PROGRESS.name
    return all(_all_run(child) for child in children)


def _write_script(proxy: tango.DeviceProxy, text: str) -> None:
    # write_attribute hides the real error behind a TypeError
    proxy.write_attributes([("script", text)])


def _table(rows: Sequence[Row], names: Mapping[str, str]) -> Table:
    """Sum up the story; devices by their names in the topology, to fit into eighty columns."""
    table = Table(box=None, pad_edge=False)
    for heading in ("command", "device", "status", "result"):
        table.add_column(heading, no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("culprits")
    table.add_column("")
    for row in rows:
        mark, style = ("✗", "red") if row.deviation else ("✓", None)
        seconds = f"{row.seconds:.2f}"
        causes = " ".join(names.get(device, device) for device in row.culprits)
        device = names.get(row.device, row.device)
        cells = (row.command, device, row.status, row.result_code, seconds, causes, mark)
        table.add_row(*cells, style=style)
    return table
