"""Pages of the documentation, done as they say.

A block is run by its language. One that cannot be run has the comment ``<!-- not run: REASON -->``
above it. A block whose first line is ``# NAME.SUFFIX`` is saved as that file. Other YAML is a part
of the topology that was saved last. Python blocks share one interpreter. In a console block

* ``$ milonga up FILE`` starts a system, which runs until the end of the page;
* ``# exits with N`` behind a command says how it ends, ``# Ctrl-C`` that it is interrupted;
* lines without ``$`` are what is printed: ``…`` stands for anything.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from milonga.deploy import Topology
from milonga.deploy._yaml_marks import read_yaml

from ..free_ports import free_port

PATIENCE = 60.0
"""Seconds that a command of a page may take."""

FREE_PORTS = ("9101", "9102", "4318")
"""Ports that pages name, for which a free one is taken."""

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_FILE = re.compile(r"# ([\w.-]+\.\w+)\n")
_ENDS = re.compile(r"  # exits with (\d+)$")
_INTERRUPTED = "  # Ctrl-C"


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    text: str
    line: int
    reason: str
    """Why it is not run; empty if it is."""


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page."""
    return [
        Block(
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("language")) + 1,
            found["reason"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


class PageRun:
    """A context manager that does what a page says, in a folder of its own."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._text = page.read_text(encoding="utf-8")
        for port in FREE_PORTS:
            self._text = re.sub(rf"\b{port}\b", str(free_port()), self._text)
        self._folder = folder
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
        }
        for name in ("MILONGA_DATA", "MILONGA_RECORDS", "TANGO_HOST"):
            self._environment.pop(name, None)
        self._topology: dict[str, Any] = {}
        self._systems: list[subprocess.Popen[str]] = []
        self._shell: subprocess.Popen[str] | None = None

    def run(self) -> int:
        """Do it all; return how many blocks were run."""
        wanted = [block for block in blocks_of(self._text) if not block.reason]
        for block in wanted:
            try:
                getattr(self, f"_run_{block.language}")(block.text)
            except Exception as error:
                raise AssertionError(
                    f"block at line {block.line}: {error}\n{block.text}"
                ) from error
        return len(wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for process in [self._shell, *self._systems]:
            if process is not None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=PATIENCE)

    def _run_text(self, text: str) -> None:
        """Take a block of text for what it is."""

    def _run_yaml(self, text: str) -> None:
        data = read_yaml(text, "page").data
        if self._saved(text):
            self._topology = data
        else:
            Topology.from_text(json.dumps(self._topology | data))

    def _run_json(self, text: str) -> None:
        json.loads(text)

    def _run_python(self, text: str) -> None:
        if self._saved(text):
            return
        if self._shell is None:
            self._shell = self._start([sys.executable, "-c", _SHELL], stdin=subprocess.PIPE)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(json.dumps(text) + "\n")
        self._shell.stdin.flush()
        told: list[str] = []
        while _DONE not in told:
            told.append(self._shell.stdout.readline())
            assert told[-1], "".join(told)  # it has ended

    def _run_console(self, text: str) -> None:
        for command, printed in _commands(text):
            ended = _ENDS.search(command)
            line = _ENDS.sub("", command)
            if line.startswith("milonga up"):
                output = self._start_system(line)
            elif line.startswith("export TANGO_HOST"):
                continue
            elif line.endswith(_INTERRUPTED):
                output = self._interrupted(line.removesuffix(_INTERRUPTED))
            else:
                output = self._ended(line, int(ended[1]) if ended else 0)
            _compare(printed, output)

    def _saved(self, text: str) -> bool:
        named = _FILE.match(text)
        if named:
            (self._folder / named[1]).write_text(text, encoding="utf-8")
        return named is not None

    def _start(self, command: list[str], **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )

    def _ended(self, line: str, code: int) -> str:
        with self._start(["bash", "-o", "pipefail", "-c", line]) as process:
            output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"{line}: exits with {process.returncode}: {output}"
        return output

    def _interrupted(self, line: str) -> str:
        with self._start(["bash", "-c", f"exec {line}"]) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode in {0, 130}, f"{line}: {first}{rest}"
        return first + rest

    def _start_system(self, line: str) -> str:
        process = self._start(["bash", "-c", f"exec {line.partition('#')[0]}"])
        self._systems.append(process)
        assert process.stdout is not None
        told: list[str] = []
        while not (told and "stop with Ctrl-C" in told[-1]):
            told.append(process.stdout.readline())
            assert told[-1], "".join(told)  # it has ended, as it does by itself when it is late
            named = re.search(r"export TANGO_HOST=(\S+)", told[-1])
            if named:
                self._environment["TANGO_HOST"] = named[1]
        self._ended(f"{sys.executable} -c '{_SETTLE}'", 0)
        return "".join(told)


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a console block, each with what it is said to print."""
    command, printed = "", list[str]()
    for line in text.replace("\\\n", "").splitlines():
        if not line.startswith("$ "):
            printed.append(line)
            continue
        if command:
            yield command, printed
        command, printed = line.removeprefix("$ "), []
    if command:
        yield command, printed


def _compare(printed: list[str], output: str) -> None:
    found = " ".join(output.split())
    place = 0
    for line in printed:
        for piece in line.split("…"):
            wanted = " ".join(piece.split())
            at = found.find(wanted, place)
            assert at >= 0, f"expected {wanted!r} in {output}"
            place = at + len(wanted)


# a person takes longer to type than parents take to have seen their children
_SETTLE = """
import time, tango
database = tango.Database()
kinds = "MilongaSubarray", "MilongaController"
names = [name for kind in kinds for name in database.get_device_exported_for_class(kind)]
end = time.monotonic() + 20.0
while any(tango.DeviceProxy(name).healthState.name == "UNKNOWN" for name in names):
    assert time.monotonic() < end, names
    time.sleep(0.05)
"""
_DONE = "the block has been run\n"
_SHELL = f"""
import json, sys
names = {{}}
for line in sys.stdin:
    exec(json.loads(line), names)
    print({_DONE!r}, end="", flush=True)
"""
