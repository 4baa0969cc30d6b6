"""The state machines of live devices beside the tables of the specification."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import tango
from tests.servers import contract_tables as tables
from tests.servers.contract_devices import (
    Contract,
    bring,
    contract_devices,
    do,
    go_to,
    obs_values,
    standing_still,
)
from tests.servers.plain_client import Recorder


@pytest.fixture(scope="module")
def devices() -> Iterator[Contract]:
    """Run the devices."""
    with contract_devices() as running:
        yield running


@pytest.mark.parametrize("origin", sorted(tables.E2_ADMIN_MODES))
def test_admin_mode_moves_as_in_its_table(devices: Contract, origin: str) -> None:
    """e.2: each mode written in each; a refusal keeps the old one; what they do to State."""
    proxy = devices.proxy("solo")
    for target, origins in tables.E2_ADMIN_MODES.items():
        proxy.adminMode = "OFFLINE"
        proxy.adminMode = origin
        if origin in origins:
            proxy.adminMode = target
        else:
            action = f"to_{target.replace('_', '').lower()}"
            text = f"StateModelError: Action {action} is not allowed in admin mode {origin}"
            with pytest.raises(tango.DevFailed, match=text):
                proxy.adminMode = target
        now = target if origin in origins else origin
        assert proxy.adminMode.name == now
        on_line = now in {"ONLINE", "ENGINEERING"}
        assert proxy.state().name == ("OFF" if on_line else "DISABLE")
    proxy.adminMode = "OFFLINE"
    proxy.adminMode = "ONLINE"


def test_admin_mode_tells_of_changes_only_and_a_repeat_changes_nothing(devices: Contract) -> None:
    """e.1, e.2: an event when the value changes; a device that is ON stays so."""
    client = devices.clients["solo"]
    bring(client, "ON")
    with Recorder(client.proxy, "adminMode") as recorder:
        client.proxy.adminMode = "ONLINE"
        client.proxy.adminMode = "ENGINEERING"
        client.proxy.adminMode = "ONLINE"
        recorder.wait_for(0, 2, 0)
    assert client.proxy.state() is tango.DevState.ON
    with pytest.raises(tango.DevFailed) as refusal:
        client.proxy.write_attribute("adminMode", 5)
    assert "API_WAttrOutsideLimit" in {entry.reason for entry in refusal.value.args}
    bring(client, "OFF")


def test_going_on_line_is_told_in_order(devices: Contract) -> None:
    """e.1, e.2: adminMode, then State and Status with the same words."""
    client = devices.clients["solo"]
    client.proxy.adminMode = "OFFLINE"
    with Recorder(client.proxy, "adminMode", "State", "Status") as recorder:
        first = recorder.values
        client.proxy.adminMode = "ONLINE"
        recorder.wait_for(*first, 0, "OFF", "The device is in OFF state.")


@pytest.mark.parametrize(
    "move", tables.E3_MOVES, ids=lambda move: f"{move.command}-{move.outcome}-in-{move.origin}"
)
def test_obs_state_moves_as_in_its_table(devices: Contract, move: tables.Move) -> None:
    """e.3: every move, seen by its events; and where the command said that it leads."""
    client = devices.clients["subarray-01"]
    go_to(devices, move.origin)
    with Recorder(client.proxy, "obsState") as recorder:
        before = recorder.values

        end = client.end(do(devices, move.command, move.outcome))

        recorder.wait_for(*before, *obs_values(move.path))
    assert end["status"] == (7 if move.outcome == "fault" else 5)
    if not (move.command == "ObsReset" and move.origin.endswith("without resources")):
        assert client.proxy.commandedObsState.name == tables.C_COMMANDED[move.command]
    go_to(devices, "EMPTY")


@pytest.mark.parametrize("origin", [*tables.E3_WAYS, "ABORTING"])
def test_a_command_in_the_wrong_obs_state_is_refused(devices: Contract, origin: str) -> None:
    """(c): reason and text of SKA devices; obsState stays, and no record is left."""
    client = devices.clients["subarray-01"]
    with ExitStack() as stack:
        if origin == "ABORTING":
            go_to(devices, "IDLE")
            client.started(do(devices, "Configure", "never"))
            stack.enter_context(standing_still(devices, "leaf"))
            client.call("Abort")  # waits for the leaf's answer
        else:
            go_to(devices, origin)
        obs_state = origin.split(maxsplit=1)[0]
        assert client.proxy.obsState.name == obs_state
        known = client.proxy.lrcFinished
        for command, states in tables.C_OBS_STATES.items():
            if obs_state in states or command == "Abort":
                continue
            argument = "{}" if tables.C_SUBARRAY[command][0] == "DevString" else None
            text = (
                f"StateModelError: {command} command not permitted in observation state {obs_state}"
            )
            for call in (
                lambda command=command, argument=argument: client.call(command, argument),
                lambda command=command, argument=argument: client.call(
                    "SubmitCommand", json.dumps({"command": command, "argument": argument})
                ),
            ):
                with pytest.raises(tango.DevFailed, match=text) as refusal:
                    call()
                assert refusal.value.args[0].reason == "PyDs_PythonError"
        assert client.proxy.obsState.name == obs_state
        assert client.proxy.lrcFinished == known
    client.wait(lambda: client.proxy.obsState.name != "ABORTING", "the abort did not end")
    go_to(devices, "EMPTY")


def test_a_rejected_command_leaves_obs_state_where_it_was(devices: Contract) -> None:
    """j.7: neither a full queue nor a refusing child leaves a subarray in between."""
    client = devices.clients["subarray-01"]
    go_to(devices, "EMPTY")
    with Recorder(client.proxy, "obsState") as recorder:
        client.end(do(devices, "AssignResources", "refused"))
        recorder.wait_for(0, 1, 0)
        uid = do(devices, "AssignResources", "never")
        client.started(uid)
        assert client.proxy.command_inout("AbortCommand", uid)[0][0] == 0
        assert client.end(uid)["status"] == 3
        recorder.wait_for(0, 1, 0, 1, 7)
    go_to(devices, "EMPTY")
