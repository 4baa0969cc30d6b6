"""Plans as commands: run, refused, paused, ended, and recorded, on real devices in processes."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import System, Topology
from milonga.errors import CommandRejected
from milonga.lrc import Invocation, LrcDevice, Outcome

from .outcomes import ended
from .plain_client import Recorder

TOPOLOGY = """
name: plans
subarrays:
  - device: plans/subarray/1
    id: 1
    server: planner
    children: [cbf, pss, pst]
    data_folder: DATA
    plans:
      - milonga.engine.plans:scan
      - milonga.engine.plans:count
      - milonga.engine.plans:live
      - site_plans:command
      - site_plans:endless
      - site_plans:listening
      - site_plans:nonsense
      - site_plans:raising
      - stroll=site_plans:steps
  - device: plans/subarray/2
    id: 2
    server: blocked
    children: [spare]
    data_folder: DATA
    plans: [site_plans:blocking]
leaves:
  - {name: cbf, device: plans/leaf/cbf, server: leaves, script: &fast {"*": {duration: 0.03}}}
  - {name: pss, device: plans/leaf/pss, server: leaves, script: *fast}
  - {name: pst, device: plans/leaf/pst, server: leaves, script: *fast}
  - {name: spare, device: plans/leaf/spare, server: leaves, script: *fast}
plan_devices:
  - name: motor
    device: plans/motor/1
    type: motor
    server: instruments
    properties: {Velocity: 200.0}
  - name: detector
    device: plans/detector/1
    type: detector
    server: instruments
    properties: {Motor: plans/motor/1, Noise: 0.0, Exposure: 0.005}
  - {name: ghost, device: plans/motor/99, type: motor}
servers:
  planner: {environment: {PYTHONPATH: SITE}}
  blocked: {environment: {PYTHONPATH: SITE}}
command_map:
  subarray:
    Configure: {tasks: {procedure: {plan: "site_plans:configure"}}}
"""
SCAN = {"detectors": ["detector"], "motor": "motor", "start": -2.0, "stop": 2.0, "num": 9}


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[System]:
    """Run a subarray with plans, one whose plan blocks, and a motor and a detector elsewhere."""
    text = TOPOLOGY.replace("DATA", str(folder)).replace("SITE", str(Path(__file__).parent))
    with System(Topology.from_text(text)) as system:
        yield system


@pytest.fixture
def device(system: System, proxy: tango.DeviceProxy) -> Iterator[LrcDevice]:
    """Return it as a client of its commands sees it; no plan runs when the test has ended."""
    with LrcDevice(system.trl("subarray-01")) as device:
        yield device
        state = proxy.engineState
        if state != "idle":  # so that the next test does not fail for it
            proxy.Abort()
        assert state == "idle"


def submit(device: LrcDevice, plan: str, arguments: Any = None, **more: Any) -> Invocation:
    """Give a plan to the device."""
    return device.invoke("RunPlan", json.dumps({"plan": plan, "arguments": arguments or {}} | more))


def run(device: LrcDevice, plan: str, arguments: Any = None, **more: Any) -> Outcome:
    """Give a plan to the device and wait for its end."""
    return ended(submit(device, plan, arguments, **more))


def documents(folder: Path, uid: str) -> list[tuple[str, dict[str, Any]]]:
    """Read the documents of a run."""
    *lines, _ = (folder / f"{uid}.jsonl").read_text(encoding="utf-8").split("\n")
    return [tuple(json.loads(line)) for line in lines]  # one may be half written


def node_of(proxy: tango.DeviceProxy, invocation: Invocation) -> dict[str, Any]:
    """Return the plan's node of a command's tree."""
    (node,) = json.loads(proxy.CommandTree(invocation.command_id))["children"]
    assert node["type"] == "plan"
    return node  # type: ignore[no-any-return]


# Good plans


def test_a_scan_records_where_the_motor_was(
    device: LrcDevice, proxy: tango.DeviceProxy, folder: Path
) -> None:
    """T1: no stale value is recorded, and documents, result and tree know of each other."""
    invocation = submit(device, "scan", SCAN, transaction_id="txn-7")
    outcome = ended(invocation)

    assert outcome.is_ok, outcome.message
    uid = proxy.lastRunUid
    assert uid in outcome.message
    assert node_of(proxy, invocation)["run_uids"] == [uid]
    found = documents(folder, uid)
    start, stop = found[0][1], found[-1][1]
    assert start["command_id"] == outcome.command_id
    assert start["transaction_id"] == "txn-7"
    assert start["device"] == "plans/subarray/1"
    assert start["plan_name"] == "scan"
    assert stop["exit_status"] == "success"
    data = [document["data"] for name, document in found if name == "event"]
    demanded = [-2.0 + 0.5 * point for point in range(9)]
    assert [event["motor-position"] for event in data] == pytest.approx(demanded, abs=1e-9)
    counts = [event["detector-counts"] for event in data]
    assert counts == pytest.approx([*counts[:5], *counts[3::-1]])  # a peak at zero
    assert counts.index(max(counts)) == 4


def test_clients_are_told_of_progress_pauses_and_the_end(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """Change events of engineState, planProgress and runningPlan; IN-05."""
    with Recorder(proxy, "engineState", "planProgress", "runningPlan") as recorder:
        known = len(recorder.events)
        invocation = submit(device, "stroll", {"seconds": 5.0, "number": 50})
        wait_until(lambda: proxy.planProgress >= 10)
        assert proxy.runningPlan == "stroll"

        assert proxy.Pause()[0][0] == ResultCode.OK
        wait_until(lambda: proxy.engineState == "paused")
        stands_at = proxy.planProgress
        assert device.invoke("AssignResources", "{}").wait(0.2) is None  # waits for its turn
        assert proxy.planProgress == stands_at < 100
        assert proxy.Resume()[0][0] == ResultCode.OK
        assert ended(invocation).is_ok
        recorder.wait_until(lambda events: values(events[known:], "engineState")[-1:] == ["idle"])

    seen = recorder.events[known:]
    states = values(seen, "engineState")
    assert [each for each in states if each in {"paused", "running"}] == [
        "running",
        "paused",
        "running",
    ]
    progress = values(seen, "planProgress")
    rising = progress[: progress.index(max(progress)) + 1]
    assert all(before <= after for before, after in pairwise(rising))
    assert ("runningPlan", "stroll") in seen
    wait_until(lambda: proxy.obsState.name == "IDLE")
    assert device.invoke("ReleaseAllResources").wait(10.0)


def values(events: list[tuple[str, object]], attribute: str) -> list[Any]:
    """Return the values of one attribute."""
    return [value for name, value in events if name == attribute]


def test_a_continuous_plan_records_while_its_action_is_on(
    device: LrcDevice, proxy: tango.DeviceProxy, folder: Path, wait_until: Callable[..., None]
) -> None:
    """IN-06: switched from this process, which is another one; stopping it is a success."""
    earlier = proxy_uids(folder)
    invocation = submit(device, "live", {"detectors": ["detector"], "period": 0.02})
    wait_until(
        lambda: (
            "record" in proxy.actions and proxy.lastRunUid in proxy_uids(folder) - earlier
        )  # not the run of another test
    )
    uid = proxy.lastRunUid

    def events() -> int:
        return sum(name == "event" for name, _ in documents(folder, uid))

    assert events() == 0
    assert proxy.ToggleAction("record")[1] == ["record is recording"]
    wait_until(lambda: events() >= 3)
    assert json.loads(proxy.actions)[0]["state"] == "recording"
    assert proxy.ToggleAction('{"name": "record", "on": false}')[1] == ["record is waiting"]
    assert proxy.StopPlan()[0][0] == ResultCode.OK

    outcome = ended(invocation)
    assert outcome.is_ok, outcome.message
    assert documents(folder, uid)[-1][1]["exit_status"] == "success"


def proxy_uids(folder: Path) -> set[str]:
    """Return the runs that have a file."""
    return {path.stem for path in folder.glob("*.jsonl")}


def test_an_action_is_seen_soon(
    device: LrcDevice, proxy: tango.DeviceProxy, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """The time from the call in this process to the plan in the other; printed."""
    notes, times = tmp_path / "notes", 20
    notes.touch()
    invocation = submit(device, "listening", {"notes": str(notes), "times": times})
    wait_until(lambda: "snap" in proxy.actions)
    waits = []
    for number in range(times):
        before = time.time()
        assert proxy.TriggerAction("snap")[0][0] == ResultCode.OK
        wait_until(lambda n=number: len(notes.read_text().splitlines()) > n)  # type: ignore[misc]
        waits.append(float(notes.read_text().split()[-1]) - before)

    assert ended(invocation).is_ok
    median = statistics.median(waits)
    print(f"an action is seen after {1000 * median:.2f} ms (median of {times})")  # noqa: T201
    assert median < 0.5


def test_configure_is_a_plan(
    system: System, device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """Its commands to children are subtasks in the tree, and are aborted with it; IN-04."""
    assert ended(device.invoke("AssignResources", "{}")).is_ok
    argument = {"interface": "i", "transaction_id": "t", "motor": "motor", "position": 3.0}

    invocation = device.invoke("Configure", json.dumps(argument))

    assert ended(invocation).is_ok
    assert proxy.obsState.name == "READY"
    assert tango.DeviceProxy(system.trl("motor")).position == pytest.approx(3.0)
    children = node_of(proxy, invocation)["children"]
    assert [child["name"] for child in children] == ["cbf", "pst", "pss"]
    assert {child["status"] for child in children} == {"COMPLETED"}
    assert all(child["command_id"].endswith("_Configure") for child in children)

    pss = tango.DeviceProxy(system.trl("pss"))
    pss.script = json.dumps({"Configure": {"outcome": "never"}})
    invocation = device.invoke("Configure", "{}")
    wait_until(lambda: len(node_of(proxy, invocation)["children"]) == 3)
    wait_until(lambda: node_of(proxy, invocation)["children"][2]["status"] == "IN_PROGRESS")
    with pytest.raises(CommandRejected, match="found plan 'site_plans:configure' running"):
        submit(device, "count", {"detectors": ["detector"]})
    before = time.monotonic()
    assert proxy.AbortCommand(invocation.command_id)[0][0] == ResultCode.OK
    outcome = ended(invocation)
    assert outcome.status is TaskStatus.ABORTED
    assert time.monotonic() - before < 4.0  # not by giving up after five
    wait_until(lambda: json.loads(pss.lrcFinished[-1])["status"] == "ABORTED")
    pss.script = json.dumps({"*": {"duration": 0.03}})
    assert ended(device.invoke("Restart")).is_ok


# Bad input


@pytest.mark.parametrize(
    ("plan", "arguments", "text"),
    [
        ("nope", {}, "plan: found 'nope', expected one of: command, count"),
        ("scan", SCAN | {"num": "many"}, "num: found 'many'"),
        ("scan", SCAN | {"motor": "detector"}, "motor: found 'detector'; Input should be 'motor'"),
        (
            "count",
            {"detectors": ["x"]},
            "found 'x'; Input should be 'motor', 'detector' or 'ghost'",
        ),
        ("count", {}, "detectors: found {}; Field required"),
        ("site_plans:nonsense", {}, "found 'site_plans:nonsense', expected one of"),
        ("count", [], "arguments: found '\\[\\]'; expected"),
    ],
)
def test_what_cannot_be_run_is_refused(
    device: LrcDevice, plan: str, arguments: object, text: str
) -> None:
    """REJECTED, with what was found and expected; nothing of it ever ran."""
    argument = json.dumps({"plan": plan, "arguments": arguments})
    with pytest.raises(CommandRejected, match=text):
        device.invoke("RunPlan", argument)


def test_what_is_no_request_is_refused(device: LrcDevice, proxy: tango.DeviceProxy) -> None:
    """Texts that are no JSON, and verbs where there is no plan."""
    with pytest.raises(CommandRejected, match="Invalid JSON"):
        device.invoke("RunPlan", "scan")
    with pytest.raises(CommandRejected, match="plans: found"):
        device.invoke("RunPlan", '{"plan": "count", "plans": 1}')
    for verb in ("Pause", "Resume", "StopPlan", "AbortPlan", "HaltPlan"):
        (code,), (text,) = proxy.command_inout(verb)
        assert code == ResultCode.REJECTED
        assert text.startswith(f"{verb}: found no plan; expected")
    assert proxy.TriggerAction("snap")[0][0] == ResultCode.REJECTED
    with pytest.raises(tango.DevFailed, match="found 'nope', expected one of"):
        proxy.DescribePlan("nope")
    assert json.loads(proxy.DescribePlan("scan"))["schema"]["required"] == list(SCAN)
    assert "stroll" in proxy.ListPlans()


@pytest.mark.parametrize(
    ("plan", "arguments", "text"),
    [
        ("raising", {}, "OSError: no beam; runs: "),
        ("nonsense", {}, "plan 'nonsense': found that it yields 42; expected a message"),
        ("scan", SCAN | {"motor": "ghost"}, "ghost (plans/motor/99): device plans/motor/99 not"),
        ("scan", SCAN | {"stop": 5e4}, "position: found 6248.25; expected -1000.0 to 1000.0"),
        ("command", {"child": "x", "name": "On"}, "found 'x'; expected one of cbf, pss, pst"),
        ("command", {"child": "cbf", "name": "ReSet"}, "cbf: ReSet"),
    ],
)
def test_what_goes_wrong_in_a_plan_is_told(
    device: LrcDevice, plan: str, arguments: object, text: str
) -> None:
    """FAILED, with the reason; the engine is idle and usable afterwards."""
    outcome = run(device, plan, arguments)

    assert outcome.status is TaskStatus.FAILED
    assert text in outcome.message
    assert run(device, "count", {"detectors": ["detector"]}).is_ok


def test_a_second_plan_is_refused_or_waits(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """While one runs and while it is paused; the text has its name."""
    first = submit(device, "stroll", {"seconds": 5.0, "number": 50})
    wait_until(lambda: proxy.engineState == "running")
    with pytest.raises(CommandRejected, match="found plan 'stroll' running; expected no other"):
        submit(device, "count", {"detectors": ["detector"]})
    proxy.Pause()
    wait_until(lambda: proxy.engineState == "paused")
    with pytest.raises(CommandRejected, match="found plan 'stroll' paused"):
        submit(device, "count", {"detectors": ["detector"]})

    second = submit(device, "count", {"detectors": ["detector"]}, on_busy="queue")
    assert second.wait(0.2) is None
    proxy.Resume()

    assert ended(first).is_ok
    assert ended(second).is_ok


def test_the_command_line_lists_and_runs_plans(system: System, device: LrcDevice) -> None:
    """`milonga plans` and `milonga run`, with the exit codes of the others."""

    def milonga(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "milonga", *arguments, "--tango-host", system.tango_host]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = milonga("plans", "plans/subarray/1", "--json")
    assert code == 0
    assert {each["name"] for each in json.loads(text)} >= {"scan", "stroll"}
    code, text = milonga("plans", "plans/subarray/1", "scan")
    assert code == 0
    assert "motor | ghost" in text
    code, text = milonga("plans", "plans/leaf/cbf")
    assert (code, "runs no plans" in text) == (4, True)
    code, text = milonga("run", "plans/subarray/1", "count", '{"detectors": ["detector"]}')
    assert code == 0, text
    assert "RunPlan: COMPLETED OK" in text
    assert "; runs: " in text
    code, text = milonga("run", "plans/subarray/1", "count", '{"detectors": ["x"]}', "--json")
    assert (code, json.loads(text)["exit_code"]) == (4, 4)


# Ending plans


@pytest.mark.parametrize(
    ("verb", "status", "word"),
    [
        ("StopPlan", TaskStatus.COMPLETED, ""),
        ("AbortPlan", TaskStatus.ABORTED, "AbortPlan was called"),
        ("HaltPlan", TaskStatus.ABORTED, "HaltPlan was called"),
        ("Abort", TaskStatus.ABORTED, "the command was aborted"),
    ],
)
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_each_way_to_end_a_plan(
    device: LrcDevice,
    proxy: tango.DeviceProxy,
    wait_until: Callable[..., None],
    verb: str,
    status: TaskStatus,
    word: str,
    paused: bool,
) -> None:
    """Behaviours 5.1: stopped is a success, aborted and halted are ABORTED."""
    plan, arguments = ("stroll", {"seconds": 60.0, "number": 1000}) if paused else ("endless", {})
    invocation = submit(device, plan, arguments)
    wait_until(lambda: proxy.engineState == "running")
    if paused:
        proxy.Pause()
        wait_until(lambda: proxy.engineState == "paused")

    proxy.command_inout(verb)

    outcome = ended(invocation)
    assert outcome.status is status
    assert word in outcome.message
    wait_until(lambda: proxy.engineState == "idle" and not proxy.lrcExecuting)
    data = json.loads(proxy.GetTask(invocation.command_id))["data"]
    assert ("aborted_by" in data) is (status is TaskStatus.ABORTED)


def test_a_plan_that_must_not_be_paused_is_not(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """IN-05."""
    invocation = submit(device, "endless")
    wait_until(lambda: proxy.engineState == "running")

    (code,), (text,) = proxy.Pause()

    assert code == ResultCode.REJECTED
    assert "'endless', which cannot be paused" in text
    proxy.AbortPlan()
    assert ended(invocation).status is TaskStatus.ABORTED


def test_a_plan_has_a_deadline_if_it_is_given_one(device: LrcDevice) -> None:
    """RunPlan's timeout."""
    outcome = run(device, "endless", timeout=0.2)

    assert outcome.status is TaskStatus.FAILED
    assert "timed out" in outcome.message


def test_verbs_return_at_once_although_the_plan_blocks(
    system: System, wait_until: Callable[..., None]
) -> None:
    """The device goes on answering, and the command ends; the times are printed."""
    proxy = tango.DeviceProxy(system.trl("subarray-02"))
    wait_until(lambda: proxy.state() is tango.DevState.OFF)
    with LrcDevice(system.trl("subarray-02")) as device:
        invocation = submit(device, "blocking", {"seconds": 60.0})
        wait_until(Path(os.environ["MILONGA_DATA"], "blocking").exists)
        took = {}
        for verb in ("Pause", "Resume", "StopPlan", "AbortPlan", "HaltPlan", "Abort", "ping"):
            before = time.monotonic()
            _ = proxy.ping() if verb == "ping" else proxy.command_inout(verb)
            took[verb] = time.monotonic() - before
        print({verb: f"{1000 * seconds:.1f} ms" for verb, seconds in took.items()})  # noqa: T201
        assert statistics.median(took.values()) < 1.5  # and none has taken the three of Tango
        outcome = ended(invocation)
        assert outcome.status is TaskStatus.ABORTED
        with pytest.raises(CommandRejected, match="found plan 'blocking'"):
            submit(device, "blocking", {"seconds": 0.0})
        assert proxy.state() is tango.DevState.OFF


def test_a_device_that_cannot_have_an_engine_says_so(system: System) -> None:
    """Init returns although the plan of the test before still blocks the event loop."""
    proxy = tango.DeviceProxy(system.trl("subarray-02"))
    if proxy.engineState == "idle":
        pytest.skip("the plan of the test before does not block any more")
    proxy.set_timeout_millis(20_000)

    proxy.Init()

    assert proxy.state() is tango.DevState.FAULT
    assert "the event loop of all engines: found it blocked" in proxy.status()


# What is wrong from the start


@pytest.mark.parametrize(
    ("name", "lines", "text"),
    [
        ("Plans", ["math"], "Property Plans, line 1: found 'math'; expected module:function"),
        ("Plans", ["no_such:plan"], "ModuleNotFoundError: No module named 'no_such'"),
        ("Plans", ["site_plans:time"], "found 'site_plans:time', which cannot be used"),
        ("PlanDevices", ['{"name": "m", "type": "rotor", "trl": "a/b/c"}'], "found 'rotor'"),
        (
            "PlanDevices",
            ['{"name": "m", "type": "json:Nothing", "trl": "a/b/c"}'],
            "module 'json' has no attribute 'Nothing'",
        ),
        ("DocumentSink", ["tiled.example"], "Property DocumentSink: found 'tiled.example'"),
        ("DataFolder", ["/proc/nowhere"], "Property DataFolder: found '/proc/nowhere'"),
    ],
)
def test_a_wrong_property_is_a_fault_with_its_reason(
    system: System,
    device: LrcDevice,
    proxy: tango.DeviceProxy,
    wait_until: Callable[..., None],
    name: str,
    lines: list[str],
    text: str,
) -> None:
    """State FAULT, Status says why; put right and initialised, it works."""
    before = list(proxy.get_property(name)[name])
    proxy.put_property({name: lines})
    try:
        proxy.Init()
        assert proxy.state() is tango.DevState.FAULT
        assert text in proxy.status()
    finally:
        proxy.put_property({name: before})
        proxy.Init()
    wait_until(lambda: proxy.state() is tango.DevState.OFF)
    assert run(device, "count", {"detectors": ["detector"]}).is_ok


def test_a_motor_that_dies_fails_the_plan(
    system: System, device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """T6: the text says that it cannot be reached. Last, because it stays dead."""
    invocation = submit(device, "scan", SCAN | {"num": 5000})
    wait_until(lambda: proxy.planProgress >= 1 or invocation.wait(0) is not None)
    process = next(process for process in system.processes if process.name == "instruments")
    process.signal(signal.SIGKILL)

    outcome = ended(invocation, 30.0)

    assert outcome.status is TaskStatus.FAILED
    assert "cannot be reached" in outcome.message
    assert "plans/" in outcome.message
    wait_until(lambda: proxy.engineState == "idle")
