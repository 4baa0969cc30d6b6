"""Live devices beside the tables of the specification: whatever a client of SKA devices may use.

Deliberate differences are data in `contract_tables.DIFFERENCES`; there are no others.
"""

import json
import re
from collections.abc import Iterator

import pytest
import tango
from tests.servers import contract_tables as tables
from tests.servers.contract_devices import (
    DEVICES,
    Contract,
    bring,
    contract_devices,
    standing_still,
)
from tests.servers.plain_client import QUEUED, REJECTED, STARTED, Recorder

from milonga.control_model import COMMAND_STATES
from milonga.devices import DEVICE_CLASSES

COMMANDS = {
    "controller": tables.C_COMMANDS | tables.C_CONTROLLER,
    "subarray-01": tables.C_COMMANDS | tables.C_SUBARRAY,
    "solo": tables.C_COMMANDS,
}
CLASSES = {
    "controller": "MilongaController",
    "subarray-01": "MilongaSubarray",
    "solo": "LeafSimulator",
}
ADDED = {
    "controller": tables.ADDED["everywhere"] | tables.ADDED["parents"],
    "subarray-01": tables.ADDED["everywhere"] | tables.ADDED["parents"],
    "solo": tables.ADDED["everywhere"] | tables.ADDED["leaves"],
}


@pytest.fixture(scope="module")
def devices() -> Iterator[Contract]:
    """Run the devices."""
    with contract_devices() as running:
        yield running


@pytest.fixture(params=sorted(DEVICES))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each device in turn."""
    return str(request.param)


# Attributes


def test_the_attributes_are_those_of_the_tables(devices: Contract, name: str) -> None:
    """b.1 to b.4: none is missing; what is added is listed."""
    attributes = {str(info.name) for info in devices.proxy(name).attribute_list_query()}

    assert attributes - set(DEVICES[name]) - set(ADDED[name]) == set()
    assert set(DEVICES[name]) - attributes == tables.left_out("attribute")


def test_each_attribute_is_configured_as_in_its_table(devices: Contract, name: str) -> None:
    """b.1 to b.4: type, dimension, access, memory, unit, limits, labels."""
    shown = {str(info.name): info for info in devices.proxy(name).attribute_list_query_ex()}

    assert {key: _configuration(shown[key]) for key in DEVICES[name]} == {
        key: _expected(row) for key, row in DEVICES[name].items()
    }


def test_each_attribute_starts_with_its_value(devices: Contract, name: str) -> None:
    """b.1 to b.4: start values; buildState and versionId are ours."""
    expected = {
        key: row.start for key, row in DEVICES[name].items() if row.start is not tables.ANYTHING
    }

    assert {key: devices.start[name][key] for key in expected} == expected
    assert re.fullmatch(r"\d+\.\d+\..*", str(devices.start[name]["versionId"]))
    version = devices.start[name]["versionId"]
    assert str(devices.start[name]["buildState"]).startswith(f"milonga, {version}, ")


def test_each_attribute_has_the_events_of_its_table(devices: Contract, name: str) -> None:
    """b.1 to b.4: what cannot be subscribed to is refused with the reason that SKA devices give."""
    proxy = devices.proxy(name)

    for key, row in DEVICES[name].items():
        events = tables.ours(key, "events", row.events)
        assert _refusal(proxy, key, tango.EventType.CHANGE_EVENT) == (
            tables.REFUSED_EVENT if events is tables.NEITHER else None
        ), key
        assert _refusal(proxy, key, tango.EventType.ARCHIVE_EVENT) == (
            None if events is tables.BOTH else tables.REFUSED_EVENT
        ), key


@pytest.mark.parametrize("mode", ["controlMode", "simulationMode", "testMode"])
def test_the_modes_tell_of_their_changes(devices: Contract, mode: str) -> None:
    """b.1, j.12: a write is stored and, unlike the original, told; LOCAL blocks nothing."""
    assert tables.ours(mode, "pushed", False) is True
    proxy = devices.proxy("solo")
    with Recorder(proxy, mode) as recorder:
        proxy.write_attribute(mode, 1)
        recorder.wait_for(0, 1)
        assert devices.clients["solo"].call("Abort")[0] == STARTED
        proxy.write_attribute(mode, 0)
        recorder.wait_for(0, 1, 0)


# Commands


def test_the_commands_are_those_of_the_table(devices: Contract, name: str) -> None:
    """(c): types of argument and result; what is added or left out is listed."""
    shown = {
        str(info.cmd_name): (str(info.in_type), str(info.out_type))
        for info in devices.proxy(name).command_list_query()
    }
    left_out = tables.left_out("command")

    wanted = {key: row for key, row in COMMANDS[name].items() if key not in left_out}
    assert {key: shown[key] for key in wanted if key in shown} == wanted
    assert set(shown) - set(wanted) - set(ADDED[name]) == set()


def test_the_guards_know_the_states_of_the_table() -> None:
    """(c): also those in which a simulator never is."""
    assert COMMAND_STATES == tables.C_STATES


@pytest.mark.parametrize("state", ["DISABLE", "OFF", "STANDBY", "ON"])
def test_power_commands_are_guarded_by_the_state(devices: Contract, name: str, state: str) -> None:
    """(c): taken, REJECTED early without a record, or refused by Tango's guard."""
    client = devices.clients[name]
    for command, allowed in tables.C_STATES.items():
        bring(client, state)
        known = client.proxy.lrcFinished
        if state not in allowed:
            text = f"Command {command} not allowed when the device is in {state} state"
            with pytest.raises(tango.DevFailed, match=text) as refusal:
                client.call(command)
            assert refusal.value.args[0].reason == "API_CommandNotAllowed"
        elif (command, state) in tables.C_EARLY:
            assert client.call(command) == (REJECTED, tables.C_EARLY[command, state])
        else:
            assert client.run(command)["status"] == 5
            continue
        assert client.proxy.lrcFinished == known
    bring(client, "OFF")


def test_a_device_that_failed_to_start_says_so(devices: Contract) -> None:
    """b.1, (c): FAULT, the reason in Status; On and Standby are not allowed, Off and Reset are."""
    client = devices.clients["broken"]

    status = client.proxy.status()
    assert client.proxy.state() is tango.DevState.FAULT
    assert status.startswith("The device is in FAULT state - init_device failed.")
    for command in ("On", "Standby"):
        with pytest.raises(tango.DevFailed, match="not allowed when the device is in FAULT state"):
            client.call(command)
    for command in ("Off", "Reset"):
        code, text = client.call(command)
        assert (code, "init_device failed" in text) == (REJECTED, True)


def test_what_is_asked_of_a_device_is_answered(devices: Contract, name: str) -> None:
    """(c): GetVersionInfo, CheckLongRunningCommandStatus, AbortCommands, version_info."""
    client = devices.clients[name]

    (text,) = client.proxy.command_inout("GetVersionInfo")
    assert text == f"{CLASSES[name]}, {client.proxy.buildState}"
    assert client.proxy.command_inout("CheckLongRunningCommandStatus", "1_2_On") == "NOT_FOUND"
    end = client.run("Standby")
    uid = next(uid for uid, news in client.news.items() if news and news[-1] is end)
    assert client.proxy.command_inout("CheckLongRunningCommandStatus", uid) == "COMPLETED"
    assert client.call("AbortCommands") == (STARTED, "Aborting commands")
    client.wait_for_idle()
    assert "milonga" in dict(client.proxy.info().version_info)
    client.run("Off")


def test_capabilities_are_counted(devices: Contract) -> None:
    """(c) SKAController: too many is False; unequal lengths or an unknown type raise."""
    proxy = devices.proxy("controller")

    assert proxy.command_inout("IsCapabilityAchievable", ([3, 1], ["BAND1", "PSS"])) is True
    assert proxy.command_inout("IsCapabilityAchievable", ([4], ["BAND1"])) is False
    for question in (([1], ["BAND1", "PSS"]), ([1], ["BAND9"])):
        with pytest.raises(tango.DevFailed) as refusal:
            proxy.command_inout("IsCapabilityAchievable", question)
        assert refusal.value.args[0].reason == "Command failed!"


def test_init_begins_anew(devices: Contract) -> None:
    """(c), e.3: no history, obsState EMPTY, memorised modes applied again."""
    client = devices.clients["subarray-01"]
    client.run("AssignResources", "{}")

    client.proxy.command_inout("Init")

    assert client.proxy.lrcFinished == ()
    assert client.proxy.longRunningCommandResult == ("", "")
    assert client.proxy.obsState.name == "EMPTY"
    assert client.proxy.adminMode.name == "ONLINE"
    client.wait_for_state("OFF")
    assert client.run("On")["status"] == 5
    client.run("Off")


def test_init_tells_the_end_of_what_was_under_way(devices: Contract) -> None:
    """Init holds the device while the device's own thread wants to push: neither may wait."""
    client = devices.clients["solo"]
    for number in range(20):
        _, uid = client.call("Standby" if number % 2 else "On")
        if number % 4 < 2:
            client.end(uid)
        client.proxy.command_inout("Init")  # a client's patience is three seconds
        client.end(uid)
        assert client.ended(uid) == 1, client.news[uid]


@pytest.mark.parametrize(("command", "argument", "told"), tables.C_ARGUMENTS)
def test_a_wrong_argument_is_rejected_with_what_was_expected(
    devices: Contract, command: str, argument: str, told: tuple[str, ...]
) -> None:
    """(c): before obsState moves, and without a record; REJECTED where the original raises."""
    assert tables.ours("argument", "refusal", "DevFailed") == "REJECTED"
    client = devices.clients["subarray-01"]
    known = client.proxy.lrcFinished

    code, text = client.call(command, argument)

    assert code == REJECTED
    assert [part for part in told if part not in text] == [], text
    assert client.proxy.obsState.name == "EMPTY"
    assert client.proxy.lrcFinished == known
    assert "STAGING" not in client.proxy.longRunningCommandStatus


# What one command leaves


def test_a_finished_command_is_told_in_the_words_of_the_protocol(devices: Contract) -> None:
    """3.1, d.1: id, keys in order, times, and the exact text of the deprecated result."""
    client = devices.clients["solo"]
    bring(client, "OFF")

    code, uid = client.call("On")
    assert client.end(uid) == {"status": 5, "result": [0, "On command completed OK"]}

    assert code == QUEUED
    assert re.fullmatch(r"\d+\.\d+_\d+_On", uid)
    entry = client.finished(uid)
    assert list(entry) == [
        *("uid", "name", "status", "submitted_time", "started_time", "finished_time", "result"),
        "client",
    ]
    assert (entry["name"], entry["status"]) == ("On", "COMPLETED")
    for key in ("submitted_time", "started_time", "finished_time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00", entry[key])
    assert entry["submitted_time"] <= entry["started_time"] <= entry["finished_time"]
    assert client.proxy.longRunningCommandResult == (uid, '[0, "On command completed OK"]')
    assert client.proxy.commandedState == "ON"
    (line,) = [text for text in client.proxy.lrcFinished if uid in text]
    assert line == json.dumps(entry)
    bring(client, "OFF")


def test_an_abort_ends_what_waits_and_what_runs(devices: Contract) -> None:
    """d.2, d.8: statuses and texts; a command meanwhile is refused; then all works again."""
    client = devices.clients["subarray-01"]
    leaf = devices.proxy("leaf")
    leaf.script = json.dumps({"Standby": {"outcome": "never"}})
    _, running = client.call("Standby")
    client.started(running)
    _, waiting = client.call("On")
    with standing_still(devices, "leaf"):  # its child does not answer, so the abort goes on
        code, abort = client.call("Abort")
        assert code == STARTED
        assert client.end(waiting) == {"status": 3, "result": [7, "Command has been aborted"]}
        assert client.call("On") == (REJECTED, "Queue is being aborted")

    assert client.end(running)["status"] == 3
    leaf.script = "{}"  # not sooner: the leaf may have been stopped before it took the command
    assert client.end(abort) == {"status": 5, "result": [0, "Abort completed OK"]}
    assert [news["status"] for news in client.news[abort]] == [0, 2, 5]
    assert "started_time" not in client.finished(waiting)
    assert [
        entry["result"]
        for entry in map(json.loads, client.proxy.lrcFinished)
        if entry["status"] == "REJECTED"
    ] == [[5, "Queue is being aborted"]]
    assert client.run("Standby")["status"] == 5
    client.run("Off")


def test_a_full_queue_refuses_and_forgets(devices: Contract) -> None:
    """d.2, j.1: one more than 32 fit; the refused one leaves no record."""
    client = devices.clients["solo"]
    client.proxy.script = json.dumps({"Standby": {"outcome": "never"}})
    bring(client, "OFF")
    try:
        ids = [client.call("Standby") for _ in range(33)]
        assert {code for code, _ in ids} == {QUEUED}
        assert client.call("Standby") == (
            REJECTED,
            "Input queue supports a maximum of 32 commands",
        )
        client.started(ids[0][1])
        assert len(client.proxy.lrcQueue) == 32
        assert len(client.proxy.longRunningCommandStatus) <= 132
    finally:
        client.run("Abort")
        client.proxy.script = "{}"
    assert client.proxy.lrcQueue == client.proxy.lrcExecuting == ()
    assert {client.end(uid)["status"] for _, uid in ids} == {3}


# Properties


def test_the_properties_are_those_of_the_table(devices: Contract, name: str) -> None:
    """(g): names and defaults as a live server tells them, types as its classes say."""
    wanted = tables.G_PROPERTIES["base"] | tables.G_PROPERTIES[CLASSES[name]]
    admin = tango.DeviceProxy(devices.proxy(name).adm_name())
    told = list(admin.command_inout("QueryWizardDevProperty", CLASSES[name]))
    defaults = dict(zip(told[::3], told[2::3], strict=True))
    (served,) = [each for each in DEVICE_CLASSES if each.__name__ == CLASSES[name]]
    types = {key: str(row[0]) for key, row in served.TangoClassClass.device_property_list.items()}

    assert {key: (types[key], defaults[key]) for key in wanted} == wanted


def test_every_difference_differs() -> None:
    """The list of differences is honest: something is different, and somebody said why."""
    for difference in tables.DIFFERENCES.values():
        assert difference.original != difference.ours
        assert difference.reason


def _expected(row: tables.Attribute) -> dict[str, object]:
    return {
        "type": row.type,
        "dim_x": row.dim_x,
        "writable": row.writable,
        "memorised": row.memorised,
        "unit": row.unit,
        "limits": row.limits,
        "labels": row.labels,
        "level": "OPERATOR",
    }


def _configuration(info: tango.AttributeInfoEx) -> dict[str, object]:
    return {
        "type": str(tango.CmdArgType.values[info.data_type]),
        "dim_x": info.max_dim_x,
        "writable": info.writable == tango.AttrWriteType.READ_WRITE,
        "memorised": info.memorized == tango.AttrMemorizedType.MEMORIZED_WRITE_INIT,
        "unit": info.unit,
        "limits": (info.min_value, info.max_value),
        "labels": " ".join(info.enum_labels),
        "level": str(info.disp_level),
    }


def _refusal(proxy: tango.DeviceProxy, attribute: str, kind: tango.EventType) -> str | None:
    try:
        subscription = proxy.subscribe_event(attribute, kind, lambda _event: None)
    except tango.DevFailed as error:
        return str(error.args[0].reason)
    proxy.unsubscribe_event(subscription)
    return None
