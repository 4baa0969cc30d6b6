"""The command line with real devices: outcomes, exit codes, and nothing left behind."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from milonga.deploy import System, Topology, examples_folder

TOPOLOGY = """
name: line
subarrays: [{device: line/subarray/01, id: 1, server: line, children: [cbf-01, pst-01]}]
leaves:
  - name: cbf-01
    device: line/cbf/01
    groups: [cbf]
    server: line
    script: {Standby: {outcome: never}}
  - name: pst-01
    device: line/pst/01
    groups: [pst]
    server: line
    script: {Off: {outcome: failed, message: stuck}}
"""
SUBARRAY = "line/subarray/01"
ASSIGN = f"@{examples_folder() / 'mid-csp' / 'assignresources.json'}"


@pytest.fixture(scope="module", autouse=True)
def _signals_as_on_a_terminal() -> Iterator[None]:
    """Programs that we start must not ignore Ctrl-C, even if we run in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """Give the address of a running system."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system.tango_host


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give an environment with a temporary folder that a test can look into."""
    return os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "80"}


Run = "subprocess.CompletedProcess[str]"


def milonga(*arguments: str, host: str = "", text: str | None = None) -> Run:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "milonga", *arguments],
        input=text,
        env=os.environ | {"TANGO_HOST": host, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(*arguments: str, environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Start the command line with its output in a pipe, and read that to its end."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "milonga", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
            process.communicate(timeout=60)
        finally:
            process.kill()


def line_with(process: "subprocess.Popen[str]", words: str) -> str:
    """Wait until the program writes a line with these words."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r} in:\n{''.join(seen)}")


def test_a_command_that_works_exits_with_0(host: str) -> None:
    """In a pipe, each node that starts or ends is a line, and the last one is the outcome."""
    result = milonga("call", SUBARRAY, "On", host=host)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith(f"{SUBARRAY} On: COMPLETED OK in ")
    assert any("line/cbf/01 On  OK" in line for line in result.stdout.splitlines())
    assert "\x1b" not in result.stdout


def test_a_failure_exits_with_1_and_names_its_culprit_as_json(host: str) -> None:
    """One JSON object and nothing else."""
    result = milonga("call", SUBARRAY, "Off", "--json", host=host)

    assert (result.returncode, result.stderr) == (1, "")
    told = json.loads(result.stdout)
    assert told["culprits"] == ["line/pst/01"]
    assert (told["status"], told["result_code"]) == ("COMPLETED", "FAILED")
    assert (told["command"], told["device"], told["exit_code"]) == ("Off", SUBARRAY, 1)
    assert "stuck" in told["message"]
    assert told["command_id"].endswith("_Off")


def test_a_command_that_goes_on_exits_with_5_and_an_aborted_one_with_3(host: str) -> None:
    """The first caller gives up, the second sees how somebody aborts it."""
    late = milonga("call", SUBARRAY, "Standby", "--timeout", "0.5", host=host)
    first_abort = milonga("call", SUBARRAY, "Abort", host=host)
    with started(
        "call", SUBARRAY, "Standby", environment=os.environ | {"TANGO_HOST": host}
    ) as call:
        line_with(call, "line/cbf/01 Standby  IN_PROGRESS")
        second_abort = milonga("call", SUBARRAY, "Abort", host=host)
        line_with(call, "ABORTED ABORTED")

    assert (late.returncode, call.returncode) == (5, 3)
    assert "the command goes on: Standby" in late.stderr
    assert (first_abort.returncode, second_abort.returncode) == (0, 0)


def test_ctrl_c_stops_following_only(host: str) -> None:
    """The person is told that the command goes on, and which one it is."""
    with started(
        "call", SUBARRAY, "Standby", environment=os.environ | {"TANGO_HOST": host}
    ) as call:
        line_with(call, "IN_PROGRESS")
        call.send_signal(signal.SIGINT)
        told = line_with(call, "goes on")
    abort = milonga("call", SUBARRAY, "Abort", host=host)

    assert call.returncode == 130
    assert told.startswith("stopped following; the command goes on: Standby 1")
    assert abort.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text", "code", "words"),
    [
        ((SUBARRAY, "Scan", "-"), '{"scan_id": 1}', 4, "not permitted in observation state"),
        ((SUBARRAY, "AssignResources", "[1]"), None, 4, "AssignResources"),
        ((SUBARRAY, "Scan", "-"), "{no json", 2, "standard input: "),
        (("line/subarray/99", "On"), None, 6, "the Tango database does not know it"),
        ((SUBARRAY, "Dance"), None, 4, "Dance"),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(
    host: str, arguments: tuple[str, ...], text: str | None, code: int, words: str
) -> None:
    """Told in one line on stderr, without a traceback."""
    result = milonga("call", *arguments, host=host, text=text)

    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_a_database_that_is_not_there_exits_with_6(*, as_json: bool) -> None:
    """Both for people and for programs."""
    options = ("--json",) if as_json else ()

    result = milonga("call", SUBARRAY, "On", "--tango-host", "127.0.0.1:1", *options)

    assert result.returncode == 6
    assert "Traceback" not in result.stderr
    if as_json:
        assert json.loads(result.stdout)["exit_code"] == 6


def test_watch_shows_commands_of_others(host: str) -> None:
    """Each line has the event, the command and its id."""
    with started("watch", SUBARRAY, environment=os.environ | {"TANGO_HOST": host}) as watch:
        line_with(watch, "watching")
        assert milonga("call", SUBARRAY, "On", host=host).returncode in {0, 4}
        assert milonga("call", SUBARRAY, "Off", host=host).returncode == 1
        ended = line_with(watch, "  Off  COMPLETED")
        watch.send_signal(signal.SIGINT)

    assert ended.startswith("ended ")
    assert watch.returncode == 130


def test_up_runs_until_it_is_told_to_stop(tmp_path: Path, environment: dict[str, str]) -> None:
    """Its one line on stdout can be given to a shell; SIGTERM is an orderly end."""
    file = tmp_path / "line.yaml"
    file.write_text(TOPOLOGY)
    with started("up", str(file), "--port", "0", environment=environment) as process:
        host = line_with(process, "export TANGO_HOST=").strip().partition("=")[2]
        line_with(process, "stop with Ctrl-C")
        children = psutil.Process(process.pid).children(recursive=True)
        result = milonga("call", SUBARRAY, "On", host=host)
        process.send_signal(signal.SIGTERM)

    assert (result.returncode, process.returncode) == (0, 0)
    assert len(children) == 2
    assert not any(child.is_running() for child in children)
    assert not list(tmp_path.glob("milonga-*"))


def test_up_tells_when_a_server_dies(tmp_path: Path, environment: dict[str, str]) -> None:
    """The rest goes on."""
    file = tmp_path / "line.yaml"
    file.write_text(TOPOLOGY)
    with started("up", str(file), "--port", "0", environment=environment) as process:
        line_with(process, "stop with Ctrl-C")
        server = next(
            child
            for child in psutil.Process(process.pid).children()
            if "milonga.devices" in child.cmdline()
        )
        server.kill()
        line_with(process, "process line was ended by SIGKILL")
        process.send_signal(signal.SIGINT)

    assert process.returncode == 0


@pytest.mark.slow
def test_the_demonstration_goes_as_told(tmp_path: Path, environment: dict[str, str]) -> None:
    """An observation, three failures and plans, and nothing is left."""
    with started("demo", environment=environment) as demo:
        assert demo.stdout is not None
        lines = demo.stdout.read().splitlines()

    assert demo.returncode == 0, "\n".join(lines)
    assert lines[-1].startswith("20 commands, all as expected")
    table = lines[-26:]
    assert any("RunPlan scan" in line and "ABORTED" in line for line in table)
    runs = [Path(line.partition(": ")[2]) for line in lines if line.startswith("run of ")]
    assert len(runs) == 3
    assert all(run.read_text(encoding="utf-8").startswith('["start", ') for run in runs)
    assert any("Configure" in line and "pst-01" in line for line in table)
    assert any("Configure" in line and "pss-01" in line for line in table)
    assert any("Scan" in line and "ABORTED" in line for line in table)
    assert not list(tmp_path.glob("milonga-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["starting a Tango database", "database at", "running after", "Configure on", "is told"],
)
def test_ctrl_c_ends_the_demonstration_at_any_time(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    """Exit code 130, no process and no file left."""
    with started("demo", environment=environment) as demo:
        line_with(demo, words)
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(signal.SIGINT)
        assert demo.stdout is not None
        rest = demo.stdout.read()

    assert demo.returncode == 130, rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + 5.0
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    assert not any(child.is_running() for child in children)
    assert not list(tmp_path.glob("milonga-*"))
