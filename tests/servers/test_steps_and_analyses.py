"""Commands that wait for people, and commands that end with an analysis, on real devices."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import System, Topology
from milonga.errors import CommandRejected
from milonga.lrc import Invocation, LrcDevice

from .outcomes import ended

TOPOLOGY = """
name: asking
subarrays:
  - device: asking/subarray/1
    id: 1
    server: asking
    children: [cbf]
    data_folder: DATA
    plans: [milonga.engine.plans:scan, site_plans:command, site_plans:raising]
    analyses:
      - {name: fit_peak, target: "milonga.analyses:fit_peak"}
      - name: talk
        target: site_analyses:talk
        parameters_model: site_analyses:TalkParameters
        python_path: [SITE]
      - {name: sleep, target: "site_analyses:sleep", python_path: [SITE]}
leaves:
  - {name: cbf, device: asking/leaf/cbf, server: leaves, script: {"*": {duration: 0.03}}}
plan_devices:
  - name: motor
    device: asking/motor/1
    type: motor
    server: leaves
    properties: {Velocity: 200.0}
  - name: detector
    device: asking/detector/1
    type: detector
    server: leaves
    properties: {Motor: asking/motor/1, Noise: 0.0, Exposure: 0.005}
servers:
  asking: {environment: {PYTHONPATH: SITE}}
command_map:
  subarray:
    AssignResources:
      timeout: 20.0
      tasks:
        ask:
          type: confirm
          prompt: How much attenuation?
          input: {attenuation: number, remark: "text?"}
        apply:
          target: "*"
          command: AssignResources
          argument: {value: {attenuation: {$answer: ask.attenuation}}}
    Configure:
      tasks:
        ask: {prompt: "From where?", input: {start: number}}
        scan:
          plan: scan
          arguments:
            {detectors: [detector], motor: motor, start: {$answer: ask.start}, stop: 2.0, num: 9}
        fit: {analysis: fit_peak, parameters: {shape: lorentzian}}
    Standby:
      tasks:
        sure: {prompt: "Are you sure?", timeout: 0.3}
        apply: {target: "*"}
    ReleaseResources:
      type: parallel
      tasks:
        first: {prompt: "First?"}
        second: {prompt: "Second?"}
"""


SCAN = {"detectors": ["detector"], "motor": "motor", "start": -2.0, "stop": 2.0, "num": 21}


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[System]:
    """Run a subarray whose commands ask."""
    text = TOPOLOGY.replace("DATA", str(folder)).replace("SITE", str(Path(__file__).parent))
    with System(Topology.from_text(text)) as system:
        yield system


@pytest.fixture
def device(system: System, proxy: tango.DeviceProxy) -> Iterator[LrcDevice]:
    """Return it as a client of its commands sees it; nothing waits when the test has ended."""
    with LrcDevice(system.trl("subarray-01")) as device:
        yield device
        assert json.loads(proxy.pendingSteps) == []


def waiting(
    proxy: tango.DeviceProxy, invocation: Invocation, count: int = 1
) -> list[dict[str, Any]]:
    """Wait until steps of a command are shown, and return them."""
    deadline = time.monotonic() + 10.0
    while True:
        steps = [
            step for step in json.loads(proxy.pendingSteps) if step["task"] == invocation.command_id
        ]
        if len(steps) == count:
            return steps
        assert time.monotonic() < deadline, f"{len(steps)} steps wait, expected {count}"
        time.sleep(0.02)


def clear(proxy: tango.DeviceProxy, invocation: Invocation, **wish: Any) -> tuple[ResultCode, str]:
    """Answer a step."""
    (code,), (text,) = proxy.ClearStep(json.dumps({"task": invocation.command_id} | wish))
    return ResultCode(code), text


def record(proxy: tango.DeviceProxy, uid: str) -> dict[str, Any]:
    """Return a record."""
    return json.loads(proxy.GetTask(uid))  # type: ignore[no-any-return]


# Steps


def test_a_step_waits_for_an_answer_that_later_steps_use(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """IN-09: shown, PAUSED, wrong answers are refused by field, and the answer is kept."""
    invocation = device.invoke("AssignResources", "{}")
    uid = str(invocation.command_id)
    (step,) = waiting(proxy, invocation)
    assert (step["prompt"], step["step"]) == ("How much attenuation?", "ask")
    assert step["input"]["required"] == ["attenuation"]
    assert step["since"] < step["until"]
    wait_until(lambda: record(proxy, uid)["phase"] == "PAUSED")
    wait_until(lambda: bool(record(proxy, uid).get("steps")))
    assert record(proxy, uid)["steps"] == [
        {"href": "asking/subarray/1/ClearStep", "uiHref": "", "stepId": "ask", "cleared": False}
    ]
    snapshot = json.loads(proxy.CommandTree(uid))
    assert snapshot["children"][0]["step"]["prompt"] == "How much attenuation?"
    assert "asks: How much attenuation?" in proxy.taskTree

    code, text = clear(proxy, invocation, answer={"attenuation": "much", "other": 1})
    assert code is ResultCode.REJECTED
    assert 'attenuation: found "much", expected type number' in text
    assert "other: found an unknown field, expected attenuation, remark" in text
    assert "still waits" in text
    assert clear(proxy, invocation, answer={"attenuation": 3.5})[0] is ResultCode.OK

    outcome = ended(invocation)
    assert (outcome.status, outcome.result_code) == (TaskStatus.COMPLETED, ResultCode.OK)
    wait_until(lambda: record(proxy, f"{uid}/ask")["status"] == "SUCCESS")
    node = record(proxy, f"{uid}/ask")
    assert node["data"]["answer"] == {"attenuation": 3.5}
    assert node["data"]["by"]
    wait_until(lambda: '{"attenuation": 3.5}' in record(proxy, f"{uid}/ask")["log"])
    whole = record(proxy, uid)
    assert [one["cleared"] for one in whole["steps"]] == [True]
    assert whole["status"] == "SUCCESS"
    assert clear(proxy, invocation)[0] is ResultCode.REJECTED


def test_a_step_that_is_refused_ends_the_command(
    device: LrcDevice, proxy: tango.DeviceProxy
) -> None:
    """IN-09: ok=false is a rejection with its text, and nothing comes after it."""
    invocation = device.invoke("AssignResources", "{}")
    waiting(proxy, invocation)
    assert clear(proxy, invocation, ok=False, text="too windy")[0] is ResultCode.OK

    outcome = ended(invocation)

    assert outcome.result_code is not ResultCode.OK
    assert "too windy" in outcome.message
    tree = json.loads(proxy.CommandTree(invocation.command_id))
    ask, apply = tree["children"]
    assert ask["status"] == "REJECTED"
    assert apply["status"] == "REJECTED"
    assert "skipped" in apply["message"]


def test_a_step_that_nobody_answers_times_out(device: LrcDevice, proxy: tango.DeviceProxy) -> None:
    """IN-09: FAILED, with a text that says so."""
    outcome = ended(device.invoke("Standby"))

    assert outcome.result_code is ResultCode.FAILED
    assert "operator: timed out after 0.3 s" in outcome.message


def test_abort_ends_a_step_that_waits(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """IN-09: the command is ABORTED at once, and its record says how."""
    invocation = device.invoke("AssignResources", "{}")
    waiting(proxy, invocation)
    began = time.monotonic()

    proxy.AbortCommand(invocation.command_id)
    outcome = ended(invocation)

    assert outcome.status is TaskStatus.ABORTED
    assert time.monotonic() - began < 5.0
    uid = f"{invocation.command_id}/ask"
    assert ended(device.invoke("Restart")).result_code is ResultCode.OK
    wait_until(lambda: record(proxy, uid)["cause"] == "ABORTED")
    assert [step["cleared"] for step in record(proxy, uid)["steps"]] == [True]


def test_steps_at_the_same_time_are_told_apart(device: LrcDevice, proxy: tango.DeviceProxy) -> None:
    """IN-09: without a name the answer is refused, and both names are told."""
    invocation = device.invoke("ReleaseResources", "{}")
    waiting(proxy, invocation, 2)

    code, text = clear(proxy, invocation)
    assert code is ResultCode.REJECTED
    assert "expected one of first, second" in text
    code, text = clear(proxy, invocation, step="second", answer={"a": 1})
    assert "expected none" in text
    assert clear(proxy, invocation, step="second")[0] is ResultCode.OK
    waiting(proxy, invocation, 1)
    assert clear(proxy, invocation)[0] is ResultCode.OK
    assert ended(invocation).result_code is ResultCode.OK


def test_the_command_line_asks_a_device(
    device: LrcDevice, proxy: tango.DeviceProxy, system: System
) -> None:
    """QA-08: `--from` a device is as good as its store."""
    invocation = device.invoke("AssignResources", "{}")
    waiting(proxy, invocation)
    clear(proxy, invocation, ok=False, text="too windy")
    ended(invocation)
    uid, trl = str(invocation.command_id), system.trl("subarray-01")

    def milonga(*arguments: str) -> str:
        command = [sys.executable, "-m", "milonga", *arguments, "--from", trl]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    (task,) = json.loads(milonga("tasks", "--limit", "1", "--json"))
    assert task["uid"] == uid
    first, *_ = milonga("explain", uid).splitlines()
    assert len(first) <= 120
    assert "too windy" in first
    assert "ask refused by" in milonga("log", uid)


def test_what_is_no_wish_is_refused_by_field(proxy: tango.DeviceProxy) -> None:
    """IN-09: the text names the field."""
    (code,), (text,) = proxy.ClearStep('{"task": 7, "okay": true}')
    assert code == ResultCode.REJECTED
    assert "task: found '7'" in text
    assert "okay: found" in text
    (code,), (text,) = proxy.ClearStep('{"task": "x"}')
    assert "expected one that waits for a person: none" in text


# Plans


def test_what_a_plan_does_is_recorded_below_it(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """IN-01, IN-03: its commands to children are nodes, with their ids and their ends."""
    argument = {"plan": "command", "arguments": {"child": "cbf", "name": "End"}}
    invocation = device.invoke("RunPlan", json.dumps(argument))
    assert ended(invocation).result_code is ResultCode.OK

    uid = f"{invocation.command_id}/command"
    wait_until(lambda: record(proxy, uid)["status"] == "SUCCESS")
    page = json.loads(proxy.QueryTasks(json.dumps({"parent_uid": uid})))
    (call,) = page["tasks"]
    assert (call["uid"], call["device"], call["command"]) == (
        f"{uid}/cbf.End.0",
        "asking/leaf/cbf",
        "End",
    )
    assert call["commandId"].endswith("_End")
    assert (call["status"], call["resultCode"]) == ("SUCCESS", "OK")


def test_a_run_is_known_by_its_uid_while_it_goes_on(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """IN-03: who has the uid finds the command at once."""
    before = proxy.lastRunUid
    invocation = device.invoke("RunPlan", json.dumps({"plan": "scan", "arguments": SCAN}))
    wait_until(lambda: proxy.lastRunUid != before)
    run = proxy.lastRunUid

    def found() -> list[str]:
        page = json.loads(proxy.QueryTasks(json.dumps({"run_uid": run})))
        return [task["uid"] for task in page["tasks"]]

    wait_until(lambda: found() == [f"{invocation.command_id}/scan"])
    assert ended(invocation).result_code is ResultCode.OK


# Analyses


def outputs(proxy: tango.DeviceProxy, uid: str) -> dict[str, Path]:
    """Return the files of a record, by name."""
    return {
        file["name"]: Path(file["href"].removeprefix("file://"))
        for file in record(proxy, uid)["outputs"]
    }


def test_a_scan_ends_with_a_fit(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """LX-14: by RunPlan; the peak is in the message, its values and a plot in the record."""
    argument = {"plan": "scan", "arguments": SCAN, "analysis": "fit_peak"}
    invocation = device.invoke("RunPlan", json.dumps(argument))
    outcome = ended(invocation, 60.0)

    assert (outcome.status, outcome.result_code) == (TaskStatus.COMPLETED, ResultCode.OK)
    assert "fit_peak: gaussian peak of detector-counts at motor-position" in outcome.message
    uid = f"{invocation.command_id}/fit_peak"
    wait_until(lambda: record(proxy, uid)["status"] == "SUCCESS")
    files = outputs(proxy, uid)
    peak = json.loads(files["payload.json"].read_text())
    assert peak["centre"] == pytest.approx(0.0, abs=0.05)
    assert peak["fwhm"] == pytest.approx(2.355, rel=0.05)
    assert peak["run"] in outcome.message
    if importlib.util.find_spec("matplotlib"):
        assert files["peak.png"].read_bytes().startswith(b"\x89PNG")
    told = record(proxy, uid)
    assert "21 points of detector-counts over motor-position" in told["log"]
    result = told["data"]["analysis"]["task_result"]
    assert (result["task_status"], result["impl_schemas"]) == ("COMPLETED", "peak-fit")
    node = json.loads(proxy.CommandTree(invocation.command_id))["children"][1]
    assert node["type"] == "analysis"
    assert {file["name"] for file in node["outputs"]} == set(files)


def test_a_command_asks_scans_and_fits(device: LrcDevice, proxy: tango.DeviceProxy) -> None:
    """IN-09, LX-14: the answer is an argument of the plan, whose run is that of the analysis."""
    assert ended(assigned(device, proxy)).result_code is ResultCode.OK
    invocation = device.invoke("Configure", "{}")
    waiting(proxy, invocation)
    assert clear(proxy, invocation, answer={"start": -1.5})[0] is ResultCode.OK

    outcome = ended(invocation, 60.0)

    assert outcome.result_code is ResultCode.OK, outcome.message
    assert "fit: lorentzian peak" in outcome.message
    _, scan, fit = json.loads(proxy.CommandTree(invocation.command_id))["children"]
    (run,) = scan["run_uids"]
    payload = json.loads(outputs(proxy, f"{invocation.command_id}/fit")["payload.json"].read_text())
    assert (payload["run"], payload["points"]) == (run, 9)
    documents = (Path(proxy.dataFolder) / f"{run}.jsonl").read_text().splitlines()
    first = next(json.loads(line)[1] for line in documents if line.startswith('["event"'))
    assert first["data"]["motor-position"] == pytest.approx(-1.5, abs=0.02)
    assert fit["status"] == "COMPLETED"


def assigned(device: LrcDevice, proxy: tango.DeviceProxy) -> Invocation:
    """Assign resources, with an answer to what that asks."""
    invocation = device.invoke("AssignResources", "{}")
    waiting(proxy, invocation)
    clear(proxy, invocation, answer={"attenuation": 1})
    return invocation


def test_what_an_analysis_says_is_kept(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """LX-05, LX-09: log lines, a summary, a payload, files, links and figures."""
    argument = {"plan": "scan", "arguments": SCAN, "analysis": "talk"}
    invocation = device.invoke("RunPlan", json.dumps(argument))
    outcome = ended(invocation, 60.0)

    assert outcome.result_code is ResultCode.OK, outcome.message
    assert "talk: " in outcome.message
    uid = f"{invocation.command_id}/talk"
    wait_until(lambda: record(proxy, uid)["status"] == "SUCCESS")
    told = record(proxy, uid)
    assert told["log"].splitlines() == ["hello", "1 runs"]
    assert {"type": "elog", "href": "https://example.org/1"} in told["links"]
    files = outputs(proxy, uid)
    assert files["words.txt"].read_text() == "a b"
    assert files["talk/report.html"].read_bytes() == b"<p>figure</p>"
    assert json.loads(files["payload.json"].read_text()) == {"runs": 1}
    last = json.loads(proxy.lastAnalysis)
    assert (last["uid"], last["name"], last["status"]) == (uid, "talk", "COMPLETED")
    assert (last["payload"], last["schemas"], last["refusals"]) == ({"runs": 1}, ["talk"], [])
    assert last["runs"][0] in outcome.message
    assert {file["name"] for file in last["outputs"]} == set(files)


def test_an_analysis_that_fails_or_is_aborted_says_so(
    device: LrcDevice, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """LX-06, LX-12: not skipped, not lost: FAILED with the reason, ABORTED at once."""
    argument = {"plan": "raising", "analysis": "fit_peak"}
    failed = ended(device.invoke("RunPlan", json.dumps(argument)))
    assert failed.result_code is ResultCode.FAILED
    assert "no beam" in failed.message
    scan = {"plan": "scan", "arguments": SCAN | {"num": 3}, "analysis": "fit_peak"}
    failed = ended(device.invoke("RunPlan", json.dumps(scan)), 60.0)
    assert failed.result_code is ResultCode.FAILED
    assert "fit_peak: ValueError: points: found 3, expected > 4" in failed.message

    scan = {"plan": "scan", "arguments": SCAN | {"num": 3}, "analysis": "sleep"}
    invocation = device.invoke("RunPlan", json.dumps(scan))
    uid = f"{invocation.command_id}/sleep"
    wait_until(lambda: "asleep" in record(proxy, uid)["log"], 30.0)
    wait_until(lambda: '"note":"asleep"' in proxy.taskTree)
    proxy.AbortCommand(invocation.command_id)
    assert ended(invocation).status is TaskStatus.ABORTED
    wait_until(lambda: record(proxy, uid)["cause"] == "ABORTED")

    with pytest.raises(CommandRejected, match="analysis: found 'nope'; expected one of fit_peak"):
        device.invoke("RunPlan", json.dumps(scan | {"analysis": "nope"}))


# Restart


def test_a_plan_that_was_cut_off_leaves_no_loose_end(
    system: System, proxy: tango.DeviceProxy, wait_until: Callable[..., None]
) -> None:
    """QE-10: the plan and the command that it had given are LOST, and so is the command."""
    leaf = tango.DeviceProxy(system.trl("cbf"))
    leaf.script = json.dumps({"*": {"outcome": "never"}})
    argument = {"plan": "command", "arguments": {"child": "cbf", "name": "End"}}
    with LrcDevice(system.trl("subarray-01")) as device:
        uid = str(device.invoke("RunPlan", json.dumps(argument)).command_id)
    call = f"{uid}/command/cbf.End.0"

    def told(of: str, what: str) -> object:
        """Return a column of a record; None while it, or the device, is not there."""
        try:
            return record(proxy, of)[what]
        except tango.DevFailed:
            return None

    wait_until(lambda: told(call, "commandId") is not None)
    process = next(one for one in system.processes if one.name == "asking")
    process.signal(signal.SIGKILL)
    assert process.wait(5.0)
    process.start()
    wait_until(lambda: told(uid, "finishedAt") is not None, 30.0)

    assert record(proxy, uid)["status"] == "LOST"
    assert "changed since" not in record(proxy, uid)["message"]
    for below in (f"{uid}/command", call):
        assert record(proxy, below)["status"] == "LOST"
        assert "was under way when the device server ended" in record(proxy, below)["message"]
