"""One command through three levels of real devices in processes of their own."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import System
from milonga.lrc import LrcDevice, Outcome

from .plain_client import Recorder

FAST = {"*": {"duration": 0.05, "steps": 1}}
STATUS, PROGRESS, RESULT = (
    f"longRunningCommand{name}" for name in ("Status", "Progress", "Result")
)


@pytest.fixture
def proxies(mid_csp: System) -> dict[str, tango.DeviceProxy]:
    """Return a proxy for each device by its name in the topology; all leaves work and are fast."""
    proxies = {
        entry.name: tango.DeviceProxy(mid_csp.trl(entry.name))
        for entry in mid_csp.topology.devices
        if entry.server != "instruments"  # what only plans use has no On and Off
    }
    for name, proxy in proxies.items():
        if name.startswith(("cbf", "pss", "pst", "vlbi")):
            proxy.script = json.dumps(FAST)
    return proxies


@pytest.fixture
def controller(mid_csp: System) -> Iterator[LrcDevice]:
    """Return the controller as its client sees it."""
    with LrcDevice(mid_csp.trl("controller")) as device:
        yield device


def call(device: LrcDevice, command: str, argument: str | None = None) -> Outcome:
    """Call a command and wait for its end."""
    outcome = device.invoke(command, argument).wait(20.0)
    assert outcome is not None
    return outcome


def finished(proxy: tango.DeviceProxy, command_id: str) -> dict[str, object]:
    """Return the entry of one command in a device's lrcFinished."""
    entries = [json.loads(text) for text in proxy.lrcFinished]
    (entry,) = [entry for entry in entries if entry["uid"] == command_id]
    return entry


def leaves(tree: dict[str, object]) -> list[dict[str, object]]:
    """Return the device leaves of a command tree."""
    if tree["type"] == "device":
        return [tree]
    return [leaf for child in tree["children"] for leaf in leaves(child)]  # type: ignore[attr-defined]


def test_every_level_tells_the_same_of_one_command(
    proxies: dict[str, tango.DeviceProxy],
    controller: LrcDevice,
    wait_until: Callable[..., None],
) -> None:
    """Ids, statuses and culprits agree from the controller's result down to the leaf's."""
    proxies["pst-01"].script = json.dumps(
        {"*": {"duration": 0.05, "outcome": "failed", "message": "no power"}}
    )

    outcome = call(controller, "On")

    assert outcome.command_id is not None
    uid, text = proxies["controller"].longRunningCommandResult
    assert uid == outcome.command_id
    code, message = json.loads(text)
    assert (code, message) == (ResultCode.FAILED, outcome.message)
    assert "mid-csp/pst/01: no power" in message
    top = finished(proxies["controller"], uid)
    assert (top["status"], top["result"]) == ("COMPLETED", [code, message])
    seen = {}
    subarrays = leaves(json.loads(proxies["controller"].CommandTree(uid)))
    for subarray in subarrays:
        name = "subarray-01" if str(subarray["target"]).endswith("01") else "subarray-02"
        entry = finished(proxies[name], str(subarray["command_id"]))
        assert entry["status"] == subarray["status"] == "COMPLETED"
        assert ResultCode(entry["result"][0]).name == subarray["result_code"]  # type: ignore[index]
        for leaf in leaves(json.loads(proxies[name].CommandTree(subarray["command_id"]))):
            proxy = proxies["-".join(str(leaf["target"]).split("/")[1:])]
            entry = finished(proxy, str(leaf["command_id"]))
            assert entry["status"] == leaf["status"]
            seen[proxy.dev_name()] = entry["result"][0]  # type: ignore[index]
    assert len(seen) == 8
    assert [name for name, code in seen.items() if code] == ["mid-csp/pst/01"]
    assert {str(s["target"])[-2:]: s["result_code"] for s in subarrays} == {
        "01": "FAILED",
        "02": "OK",
    }
    wait_until(lambda: proxies["subarray-01"].healthState.name == "DEGRADED")
    assert list(json.loads(proxies["subarray-01"].healthInfo)) == ["mid-csp/pst/01"]


def test_a_whole_observation_and_its_states(
    mid_csp: System, proxies: dict[str, tango.DeviceProxy], controller: LrcDevice
) -> None:
    """From On to Off; a command in the wrong obsState and bad arguments change nothing."""
    if proxies["controller"].state() is tango.DevState.ON:
        call(controller, "Off")
    subarray = proxies["subarray-01"]
    with ExitStack() as stack:
        device = stack.enter_context(LrcDevice(mid_csp.trl("subarray-01")))
        assert call(controller, "On").is_ok
        steps = [
            ("AssignResources", '{"subarray_id": 1}', "IDLE"),
            ("Configure", "{}", "READY"),
            ("Scan", '{"scan_id": 1}', "SCANNING"),
            ("EndScan", None, "READY"),
            ("End", None, "IDLE"),
            ("ReleaseResources", '{"release_all": true}', "EMPTY"),
        ]
        for command, argument, state in steps:
            with pytest.raises(tango.DevFailed, match="not permitted in observation state"):
                subarray.command_inout("ObsReset")
            if argument is not None:
                code, text = subarray.command_inout(command, "[1]")
                assert code[0] == ResultCode.REJECTED
                assert "expected a JSON object" in text[0]
            assert call(device, command, argument).is_ok
            assert subarray.obsState.name == state
        assert call(controller, "Off").is_ok
    assert all(proxy.state() is tango.DevState.OFF for proxy in proxies.values())


def test_an_aborted_scan_ends_at_every_level(
    mid_csp: System, proxies: dict[str, tango.DeviceProxy], controller: LrcDevice
) -> None:
    """Abort reaches the leaves; Restart makes the subarray usable again."""
    proxies["cbf-02"].script = json.dumps({"Scan": {"outcome": "never"}})
    with LrcDevice(mid_csp.trl("subarray-02")) as device:
        call(device, "AssignResources", "{}")
        call(device, "Configure", "{}")
        scan = device.invoke("Scan", "{}")
        assert scan.wait(0.5) is None

        assert call(device, "Abort").is_ok

        outcome = scan.wait(5.0)
        assert outcome is not None
        assert (outcome.status, outcome.result_code) == (TaskStatus.ABORTED, ResultCode.ABORTED)
        assert proxies["subarray-02"].obsState.name == "ABORTED"
        last = json.loads(proxies["cbf-02"].lrcFinished[-1])
        assert (last["name"], last["status"]) == ("Scan", "ABORTED")
        assert call(device, "Restart").is_ok
        assert proxies["subarray-02"].obsState.name == "EMPTY"


def test_a_v1_client_sees_the_whole_life_of_a_command(
    proxies: dict[str, tango.DeviceProxy],
) -> None:
    """lrc-protocol (i): status list, progress and result, the result before the final status."""
    proxy = proxies["vlbi-02"]
    proxy.script = json.dumps({"*": {"duration": 0.2, "steps": 1}})
    if proxy.state() is tango.DevState.ON:
        pytest.fail("the leaf should have been switched off by the tests before")
    with Recorder(proxy, STATUS, PROGRESS, RESULT) as recorder:
        (_,), (uid,) = proxy.command_inout("On")

        def news(events: list[tuple[str, Any]]) -> list[tuple[str, str]]:
            mine = [(name, texts) for name, texts in events if texts and uid in texts]
            return [(name, texts[texts.index(uid) + 1]) for name, texts in mine]

        recorder.wait_until(lambda events: (STATUS, "COMPLETED") in news(events))

    assert news(recorder.events) == [
        (STATUS, "STAGING"),
        (STATUS, "QUEUED"),
        (STATUS, "IN_PROGRESS"),
        (PROGRESS, "50"),
        (RESULT, '[0, "On command completed OK"]'),
        (STATUS, "COMPLETED"),
    ]
