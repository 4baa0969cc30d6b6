"""What operators use, against a running system: trees, dry runs, itango, the command line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import tango
from click.testing import Result
from typer.testing import CliRunner

from milonga.cli._app import app
from milonga.cli._asking import explain, list_commands
from milonga.cli._looking import TreeReader
from milonga.deploy import System, Topology
from milonga.errors import CommandRejected
from milonga.lrc import LrcDevice
from milonga.lrc.task_tree import TaskTreeFold, read_document

from .plain_client import look_until

TOPOLOGY = """
name: ops
controller: {device: ops/control/0, server: top}
subarrays:
  - {device: ops/subarray/01, id: 1, server: middle, children: [cbf, pst],
     plans: ["milonga.engine.plans:count"]}
leaves:
  - name: cbf
    device: ops/cbf/01
    groups: [cbf]
    server: leaves
    script: {"*": {duration: 0.6, steps: 6}, Off: {outcome: never}}
  - name: pst
    device: ops/pst/01
    groups: [pst]
    server: leaves
    script: {"*": {duration: 0.2, steps: 2}, Standby: {outcome: failed, message: no power}}
plan_devices: [{name: det, device: ops/det/1, type: detector, server: leaves}]
"""
CONTROLLER, SUBARRAY = "ops/control/0", "ops/subarray/01"
UNSETTLED = {tango.DevState.UNKNOWN, tango.DevState.INIT, tango.DevState.DISABLE}
"""States in which a parent does not know its children."""

WaitUntil = Callable[..., None]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a controller over a subarray over two leaves, each level in its own process."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        yield system


@pytest.fixture(autouse=True)
def _at_rest(system: System, wait_until: WaitUntil) -> Iterator[None]:
    """Leave both parents with nothing running, and knowing their children."""
    yield
    for name in ("controller", "subarray-01"):
        if all(process.running for process in system.processes):
            proxy = tango.DeviceProxy(system.trl(name))
            wait_until(lambda proxy=proxy: not proxy.lrcExecuting and not proxy.lrcQueue, 20.0)
            wait_until(lambda proxy=proxy: proxy.state() not in UNSETTLED, 20.0)


def run(system: System, *arguments: str) -> Result:
    """Run the command line in eighty columns, within this process, as that is quicker."""
    runner = CliRunner(env={"TANGO_HOST": system.tango_host, "COLUMNS": "80"})
    return runner.invoke(app, list(arguments))


def environment(system: System) -> dict[str, str]:
    """Give the environment of a person who works with the system."""
    return os.environ | {"TANGO_HOST": system.tango_host, "COLUMNS": "80", "LINES": "50"}


def do(system: System, name: str, command: str) -> Any:
    """Run a command to its end."""
    with LrcDevice(system.trl(name)) as device:
        return device.invoke(command).wait(20.0)


def switch_on(system: System, name: str) -> tango.DeviceProxy:
    """Have a parent in state ON, which it may be about to find itself in."""
    proxy = tango.DeviceProxy(system.trl(name))
    look_until(lambda: proxy.state() not in UNSETTLED, "it does not find its children")
    if proxy.state() != tango.DevState.ON:
        with suppress(CommandRejected):
            do(system, name, "On")
    look_until(lambda: proxy.state() == tango.DevState.ON, "it is not ON")
    return proxy


def hang(system: System) -> str:
    """Call what cbf never ends; return its id once it waits for cbf alone."""
    late = run(system, "call", SUBARRAY, "Off", "--timeout", "0.3", "--json")
    assert late.exit_code == 5, late.output
    subarray = tango.DeviceProxy(system.trl("subarray-01"))
    look_until(lambda: awaited(subarray.taskTree) == {"ops/cbf/01"}, "cbf is not waited for")
    return str(json.loads(late.stdout)["command_id"])


def awaited(task_tree: str) -> set[str]:
    """Return the devices that the newest command of a task tree waits for, if all have begun."""
    waits = json.loads(task_tree)["commands"][-1].get("waits_for", [])
    return {wait["device"] for wait in waits} if all(wait["since"] for wait in waits) else set()


PATIENT = 2.5
"""Seconds for a device to say whether it has a command: one that is only slow is not silent."""


@contextmanager
def frozen(system: System, name: str) -> Iterator[None]:
    """Have a server that is there and answers nothing."""
    pid = next(each for each in system.processes if each.name == name).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # a signal may take a moment
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Follower:
    """Follows the deltas of a device, and reads the whole where that is needed."""

    def __init__(self, trl: str) -> None:
        self.proxy = tango.DeviceProxy(trl)
        self.fold = TaskTreeFold()
        self.sizes: list[int] = []
        self.progress: list[int] = []
        self.waits: list[Any] = []
        self.fold.take(self.proxy.taskTree)
        kind = tango.EventType.CHANGE_EVENT
        self._event = self.proxy.subscribe_event("taskTreeDelta", kind, self._heard)

    def _heard(self, event: Any) -> None:
        if event.err:
            return
        self.sizes.append(len(event.attr_value.value))
        if not self.fold.take_delta(event.attr_value.value):
            self.fold.take(self.proxy.taskTree)
        newest = self.newest()
        self.progress.append(newest.get("progress", 0))
        self.waits += newest.get("waits_for", [])

    def newest(self) -> dict[str, Any]:
        """Return the latest command."""
        document = self.fold.document
        commands = document["commands"] if document else []
        return commands[-1] if commands else {}

    def close(self) -> None:
        """Follow no more."""
        self.proxy.unsubscribe_event(self._event)


def names(node: dict[str, Any]) -> set[str]:
    """Return the targets of a node and all below it."""
    own = {node["target"]} if node.get("target") else set()
    return own.union(*map(names, node.get("children", [])))


def test_the_controller_tells_the_tree_down_to_the_leaves_of_other_processes(
    system: System, wait_until: WaitUntil
) -> None:
    """Who follows the deltas sees what who reads the attribute sees; progress never goes back."""
    follower = Follower(system.trl("controller"))
    try:
        outcome = do(system, "controller", "On")
        wait_until(lambda: names(follower.newest()) >= {"ops/cbf/01", "ops/pst/01"})
        wait_until(lambda: follower.newest().get("status") == "COMPLETED")
        wait_until(
            lambda: (
                read_document(follower.proxy.taskTree)["commands"]
                == (follower.fold.document or {}).get("commands")
            )
        )
    finally:
        follower.close()

    assert outcome.result_code.name == "OK"
    assert follower.progress == sorted(follower.progress)
    assert {wait["device"] for wait in follower.waits} & {"ops/cbf/01", "ops/pst/01"}


def leaf_calls(told: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return what a dry run says that devices would get, those below included."""
    calls = []
    for call in told["calls"]:
        if not call.get("not_sent"):
            calls.append((call["target"], call["command"], call["argument"]))
            calls += leaf_calls(call["below"]) if "below" in call else []
    return calls


def tree_calls(node: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a tree says that devices got."""
    own = [(node["target"], node["command"])] if node.get("target") else []
    return own + [call for child in node.get("children", []) for call in tree_calls(child)]


ARGUMENT = json.dumps({"subarray_id": 1, "dish": {"receptor_ids": ["0001"]}})


@pytest.mark.parametrize(
    ("trl", "command", "count"), [(SUBARRAY, "Standby", 2), (CONTROLLER, "Reset", 3)]
)
def test_a_dry_run_sends_nothing_and_lists_what_the_real_run_then_sends(
    system: System, trl: str, command: str, count: int
) -> None:
    """Down to the leaves; once it has run, also how long it takes."""
    switch_on(system, "controller")
    leaves = [tango.DeviceProxy(system.trl(name)) for name in ("cbf", "pst")]
    before = [leaf.lrcFinished for leaf in leaves]

    dry = run(system, "call", trl, command, "--dry-run", "--json")
    after = [leaf.lrcFinished for leaf in leaves]
    real = json.loads(run(system, "call", trl, command, "--json").stdout)
    tree = TreeReader().read(f"tango://{system.tango_host}/{trl}", real["command_id"])

    planned = leaf_calls(json.loads(dry.stdout))
    assert (dry.exit_code, before) == (0, after)
    assert len(planned) == count
    assert [(target, name) for target, name, _ in planned] == tree_calls(tree)


def test_a_dry_run_tells_how_long_a_command_takes(system: System) -> None:
    """From the runs before, on this device."""
    trl = system.trl("subarray-01")
    switch_on(system, "subarray-01")
    do(system, "subarray-01", "Reset")
    do(system, "subarray-01", "Reset")

    told = json.loads(tango.DeviceProxy(trl).DryRun('{"command": "Reset"}'))

    assert 0.5 < told["expected"] < 5.0
    assert {call["target"] for call in told["calls"]} == {"ops/cbf/01", "ops/pst/01"}


def test_a_plan_can_be_tried_without_running_it(system: System) -> None:
    """Its arguments are checked as they would be."""
    good, bad = '{"detectors": ["det"], "num": 3}', '{"detectors": ["dog"]}'
    proxy = tango.DeviceProxy(system.trl("subarray-01"))

    fine = run(system, "run", SUBARRAY, "count", good, "--dry-run", "--json")
    wrong = run(system, "run", SUBARRAY, "count", bad, "--dry-run")

    (call,) = json.loads(fine.stdout)["calls"]
    assert (fine.exit_code, wrong.exit_code) == (0, 4)
    assert (call["type"], call["target"]) == ("plan", "count")
    assert [device["name"] for device in call["devices"]] == ["det"]
    assert call["devices"][0]["target"].endswith("ops/det/1")
    (trigger,) = call["steps"]
    assert (trigger["target"], trigger["command"], trigger["times"]) == ("det", "trigger", 3)
    assert "dog" in wrong.stdout
    assert (proxy.runningPlan, proxy.lastRunUid) == ("", "")


def test_a_plan_whose_device_does_not_answer_would_fail(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for its State within a second, and nothing else."""
    monkeypatch.setattr("milonga.cli._dry_run._CALL_TIMEOUT", 10.0)  # three are short for a second
    with frozen(system, "leaves"):
        dry = run(system, "run", SUBARRAY, "count", '{"detectors": ["det"]}', "--dry-run")

    assert dry.exit_code == 1
    assert "uses det (ops/det/1)  would fail: did not answer within 1 s" in dry.stdout


@pytest.mark.parametrize(
    ("command", "argument", "kind", "words"),
    [
        ("Configure", "{}", "state", "not permitted in observation state EMPTY"),
        ("AssignResources", "[1]", "argument", "AssignResources"),
        ("Dance", None, "command", "found 'Dance'"),
        ("RunPlan", '{"plan": "coun"}', "argument", "found 'coun'"),
        ("RunPlan", '{"plan": "count", "arguments": {"num": "x"}}', "argument", "num"),
    ],
)
def test_what_would_be_refused_is_found_before_anything_is_sent(
    system: System, command: str, argument: str | None, kind: str, words: str
) -> None:
    """Exit code 4, as the real call; the reason is told."""
    arguments = () if argument is None else (argument,)

    dry = run(system, "call", SUBARRAY, command, *arguments, "--dry-run", "--json")

    told = json.loads(dry.stdout)
    assert dry.exit_code == 4
    assert kind in {refusal["kind"] for refusal in told["refusals"]}
    assert any(words in refusal["text"] for refusal in told["refusals"])


def test_a_child_out_of_service_is_left_out_and_admin_mode_refuses(system: System) -> None:
    """What the operators have said is taken into account."""
    proxy = tango.DeviceProxy(system.trl("subarray-01"))
    proxy.TakeOutOfService("pst")
    try:
        told = json.loads(proxy.DryRun('{"command": "Reset"}'))
    finally:
        proxy.ReturnToService("pst")
    proxy.adminMode = 1
    try:
        offline = json.loads(proxy.DryRun('{"command": "On"}'))
    finally:
        proxy.adminMode = 0

    assert told["left_out"] == [{"child": "pst", "why": "out of service"}]
    assert [call["target"] for call in told["calls"]] == ["ops/cbf/01"]
    assert "admin mode is OFFLINE" in json.dumps(offline["refusals"])
    assert not json.loads(proxy.DryRun("no JSON"))["accepted"]


def test_a_command_that_hangs_is_seen_and_aborted_from_the_command_line(system: System) -> None:
    """By its id alone; the tree says what it waited for."""
    switch_on(system, "subarray-01")
    uid = hang(system)
    tree = run(system, "tree", uid)
    as_json = json.loads(run(system, "tree", SUBARRAY, uid, "--json").stdout)
    abort = run(system, "abort", uid, "--json")
    again = run(system, "abort", uid, "--json")
    after = run(system, "tree", SUBARRAY, uid)

    assert (tree.exit_code, abort.exit_code) == (0, 0)
    assert re.search(r"waits \d+\.\d s for ops/cbf/01 Off", tree.stdout)
    assert "\x1b" not in tree.stdout
    assert "…" not in tree.stdout, "nothing is cut in a pipe"
    assert as_json["commands"][0]["waits_for"][0]["device"] == "ops/cbf/01"
    assert json.loads(abort.stdout)["status"] == "ABORTED"
    assert again.exit_code in {0, 4}
    assert "ABORTED" in after.stdout.splitlines()[0]


@pytest.fixture
def hanging(system: System) -> Iterator[str]:
    """Give the id of a command of the subarray that runs until it is aborted."""
    switch_on(system, "subarray-01")
    yield hang(system)
    run(system, "abort", SUBARRAY)


@contextmanager
def following(system: System, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Follow trees with the command line, in a pipe."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "milonga", "tree", *arguments, "--follow"],
        env=environment(system),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process


@pytest.mark.parametrize("records", [True, False])
def test_who_follows_a_command_is_told_its_end_though_its_device_forgets_it(
    system: System, hanging: str, records: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init ends it; the records say how: those that can be read here, or else the device's."""
    if not records:
        monkeypatch.setenv("MILONGA_RECORDS", "nowhere.db")
    with following(system, SUBARRAY, hanging) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        tango.DeviceProxy(system.trl("subarray-01")).Init()
        rest = process.communicate(timeout=30.0)[0]

    assert "Off  IN_PROGRESS" in first
    assert process.returncode in {1, 3}
    assert re.search(r"Off  (ABORTED|FAILED)", rest)
    assert "found no" not in rest


def test_how_long_commands_take_is_known_from_the_records_after_a_restart(
    system: System, wait_until: WaitUntil
) -> None:
    """Init forgets what the device had seen itself."""
    proxy = switch_on(system, "subarray-01")
    proxy.Init()

    def told() -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(proxy.DryRun('{"command": "On"}'))
        return answer

    wait_until(lambda: told()["expected"] is not None)
    assert 0.1 < told()["expected"] < 10.0
    assert all(call["expected"] for call in told()["calls"])


def test_a_device_that_hangs_is_not_taken_for_one_that_has_no_such_command(
    system: System, hanging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without records to look into: it may be there, where nobody answers."""
    monkeypatch.setenv("MILONGA_RECORDS", "nowhere.db")
    monkeypatch.setattr("milonga.cli._finding._CALL_TIMEOUT", PATIENT)
    with frozen(system, "middle"):
        silent = run(system, "abort", hanging)
    found = run(system, "tree", hanging)

    assert (silent.exit_code, found.exit_code) == (6, 0)
    assert "none of the 4 devices that answer" in silent.stderr
    assert f"it may be at {SUBARRAY}" in silent.stderr


@pytest.mark.usefixtures("hanging")
def test_a_command_in_the_queue_says_what_it_is_queued_behind(system: System) -> None:
    """In the tree, in the lines of a call, and before it is sent."""
    called = run(system, "call", SUBARRAY, "Standby", "--timeout", "0.6")
    dry = run(system, "call", SUBARRAY, "Standby", "--dry-run")
    *_, off, standby = json.loads(tango.DeviceProxy(system.trl("subarray-01")).taskTree)["commands"]

    assert "Standby: queued behind Off (1 ahead)" in called.stdout.splitlines()
    assert "queued behind Off (2 ahead)" in dry.stdout
    assert standby["waits_for"] == [{"device": SUBARRAY, "command": "Off", "since": off["started"]}]
    assert standby["waiting"] == 1


def test_the_records_say_which_device_has_a_command(
    system: System, hanging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no other is asked, and a device that hangs elsewhere keeps nobody waiting."""
    asked: list[str] = []
    proxy_of = tango.DeviceProxy

    def noted(trl: str) -> tango.DeviceProxy:
        asked.append(trl)
        return proxy_of(trl)

    with frozen(system, "leaves"), monkeypatch.context() as patch:
        patch.setattr(tango, "DeviceProxy", noted)
        found = run(system, "tree", hanging)

    assert found.exit_code == 0, found.output
    assert "Off  IN_PROGRESS" in found.stdout
    assert {trl.lower() for trl in asked} == {system.trl("subarray-01").lower()}


def test_a_device_that_keeps_no_records_is_asked_for_what_it_remembers(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables and trees say the same."""
    monkeypatch.setattr("milonga.cli._asking._asked", lambda *_: None)
    outcome = do(system, "subarray-01", "Standby")
    trl = system.trl("subarray-01")

    newest, *_ = list_commands(trl)
    why = explain(trl, outcome.command_id)
    of_leaf = list_commands(system.trl("pst"), 1)[0]

    assert (newest["id"], newest["command"]) == (outcome.command_id, "Standby")
    assert newest["outcome"] == "FAILED"
    assert why[0] == "Standby succeeded in part: ops/pst/01 Standby failed: no power"
    assert why[1].startswith("cause: ops/pst/01 Standby at ")
    assert explain(system.trl("pst"), of_leaf["id"])[0] == "ops/pst/01 Standby failed: no power"
    with pytest.raises(CommandRejected, match="17_22_On"):
        explain(trl, "17_22_On")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("tree", "no/such/device"), 6, "the Tango database does not know it"),
        (("tree", "no such"), 2, "expected domain/family/member"),
        (("tree", "ops/cbf/01"), 2, "found no attribute taskTree"),
        (("tree", SUBARRAY, "17_22_On"), 4, "found no '17_22_On'"),
        (("abort", SUBARRAY, "17_22_On"), 4, "17_22_On"),
        (("abort", "17_22_On"), 4, "none of"),
        (("call", "ops/cbf/01", "On", "--dry-run"), 2, "found no command DryRun"),
        (("call", SUBARRAY, "Onn"), 4, "no command Onn (perhaps On is meant); it has Abort, Abort"),
        (("call", "no/such/device", "On"), 6, "no/such/device cannot be reached"),
        (("watch", "no/such/device"), 6, "no/such/device: the Tango database does not know it"),
        (("plans", "ops/cbf/01"), 4, "ops/cbf/01: found a device that runs no plans"),
    ],
)
def test_bad_input_is_told_in_a_line(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    """With its exit code."""
    monkeypatch.setattr("milonga.cli._finding._CALL_TIMEOUT", PATIENT)
    result = run(system, *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "tango://" not in result.stderr.replace("expected domain/family/member or tango://…", "")
    assert len(result.stderr.splitlines()) == 1


def _program(name: str) -> str:
    """Find a program beside this Python, or else on the path."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name


def itango(system: System, folder: Path, *lines: str) -> str:
    """Run lines in an itango shell and return what it has written."""
    result = subprocess.run(
        [_program("itango"), "--simple-prompt", "--no-banner", "--colors=NoColor"],
        input="\n".join((*lines, "exit", "")),
        env=environment(system) | {"IPYTHONDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout


def sections(output: str) -> dict[str, str]:
    """Return what a session has written after each ``== NAME``, up to the next."""
    parts = (part.partition("\n") for part in output.split("== ")[1:])
    return {name.strip(): text for name, _, text in parts}


def test_an_itango_session_submits_watches_aborts_and_explains(
    system: System, tmp_path: Path
) -> None:
    """The shell of the people who command the system, with real servers."""
    out = itango(
        system,
        tmp_path,
        "%load_ext milonga.itango",
        f'sub, top = Device("{SUBARRAY}"), Device("{CONTROLLER}")',
        "print('== FIRST')",
        "%submit -w sub On",
        "print('== DRY')",
        "%dryrun sub Off",
        "print('== TREE')",
        "%submit sub Off",
        # until only cbf is waited for, which has begun
        "import json; newest = lambda: json.loads(sub.taskTree)['commands'][-1]",
        "waits = lambda: [(w['device'], bool(w['since'])) for w in newest().get('waits_for', [])]",
        "_ = any(iter(lambda: waits() == [('ops/cbf/01', True)], True))",
        "%tree",
        "print('== WAITS')",
        "%explain",
        "print('== ELSEWHERE')",
        "%dryrun top Off",
        "%tree ops/no/such",
        "%tasks top",
        "print('== ABORT')",
        "%abort",
        "print('== WHY')",
        "%explain",
        "print('== LIST')",
        "%tasks sub",
        "%plans sub",
        "print('== FOLLOWED')",
        "%submit -w sub Standby",
        "print('== FAILED')",
        "%explain",
        "print('== END')",
    )

    told = sections(out)
    assert f"{SUBARRAY} On: COMPLETED OK" in told["FIRST"]
    assert "nothing was sent" in told["DRY"]
    assert re.search(r"waits \d+\.\d s for ops/cbf/01 Off", told["TREE"])
    assert "waits for" in told["WAITS"]
    assert "ops/cbf/01" in told["WAITS"]
    assert "the Tango database does not know it" in told["ELSEWHERE"]
    assert re.search(rf"{SUBARRAY} \S+_Off: ABORTED", told["ABORT"])
    assert "Off" in told["WHY"]
    assert "aborted" in told["WHY"].lower()
    assert "Off" in told["LIST"]
    assert "count" in told["LIST"]
    assert "no power" in told["FOLLOWED"]
    assert "Standby" in told["FAILED"]
    assert "no power" in told["FAILED"]
    assert "END" in told


def test_an_itango_session_aborts_nothing_that_was_not_named(
    system: System, tmp_path: Path
) -> None:
    """What is typed wrongly is told in a line, with what was expected."""
    out = itango(
        system,
        tmp_path,
        "%load_ext milonga.itango",
        f'sub = Device("{SUBARRAY}")',
        "print('== NOTHING')",
        "%tree sub",
        "%abort",
        "print('== EMPTY')",
        "%submit -w",
        "print('== QUOTE')",
        "%submit sub On '{",
        "print('== OPTION')",
        "%tree --help",
        "print('== WORDS')",
        "%abort sub top",
        "print('== GONE')",
        "%submit ops/no/such On",
        "print('== END')",
    )

    told = sections(out)
    assert "expected the id of one, or a device" in told["NOTHING"]
    assert "expected %submit [-w] DEVICE COMMAND [JSON | @FILE]" in told["EMPTY"]
    assert "No closing quotation; expected JSON" in told["QUOTE"]
    assert "found '--help'; expected %tree [DEVICE | ID]" in told["OPTION"]
    assert "found 'sub top'; expected %abort [DEVICE | ID]" in told["WORDS"]
    assert "the Tango database does not know it" in told["GONE"]
    assert "END" in told


def test_the_shell_completes_devices_commands_and_plans(system: System, tmp_path: Path) -> None:
    """Also without the per cent sign."""
    out = itango(
        system,
        tmp_path,
        "%load_ext milonga.itango",
        'print("1", get_ipython().complete("ops/sub", "%submit ops/sub")[1])',
        f'print("2", get_ipython().complete("Conf", "%submit {SUBARRAY} Conf")[1])',
        f'print("3", get_ipython().complete("", "plans {SUBARRAY} ")[1])',
        'print("4", get_ipython().complete("", "%submit no/such/device ")[1])',
    )

    assert f"1 ['{SUBARRAY}']" in out
    assert "2 ['Configure']" in out
    assert "3 ['count']" in out


def test_plain_ipython_has_the_same_commands(system: System, tmp_path: Path) -> None:
    """Nothing of itango is needed."""
    code = f"get_ipython().run_line_magic('tasks', '{SUBARRAY}')"
    result = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", *("--ext", "milonga.itango"), "-c", code],
        env=environment(system) | {"IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "On" in result.stdout


def test_the_shell_of_the_operating_system_completes_too(system: System) -> None:
    """As bash would ask."""
    asked = {
        "COMP_WORDS": "milonga tree ops/",
        "COMP_CWORD": "2",
        "_MILONGA_COMPLETE": "complete_bash",
    }
    result = subprocess.run(
        [_program("milonga")],
        env=environment(system) | asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert SUBARRAY in result.stdout.split()
    assert "dserver" not in result.stdout


def test_who_follows_a_tree_is_told_that_the_device_vanished(system: System) -> None:
    """What was known stays on the screen, and the tool goes on; the last test of this system."""
    do(system, "subarray-01", "Reset")
    with following(system, SUBARRAY) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("Reset  OK" in line for line in lines)
        server = next(each for each in system.processes if each.name == "middle")
        os.kill(server.pid, signal.SIGKILL)
        gone = next(line for line in lines if line.startswith(f"{SUBARRAY}: "))
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

    assert SUBARRAY in gone
    assert process.returncode == 130
    assert "Traceback" not in rest
