"""Children that know nothing of Milonga, in a process of their own."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tango
from tests.servers.foreign_fixtures import ForeignServer

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ProtocolError, Unreachable
from milonga.lrc import (
    ChildDevice,
    ChildKind,
    Expectation,
    Invocation,
    Outcome,
    Sighting,
    child_device,
)
from milonga.lrc._foreign import ForeignCalls

from .plain_client import look_until

LAMPS = ("Lamp", "SilentLamp", "BrokenLamp", "FaultyLamp", "SlowLamp")
ON = Expectation("State", reached=("ON",), failed=("FAULT",), timeout=15.0)
OFF = Expectation("State", reached=("OFF",), failed=("FAULT",), timeout=15.0)
UNTIL = {"On": ON, "Off": OFF, "Reset": ON}

WaitUntil = Callable[..., None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    """Run the devices that outlive the tests."""
    folder = tmp_path_factory.mktemp("foreign")
    with ForeignServer(folder, "foreign", (*LAMPS, "Meter", "LegacyLrc")) as server:
        yield server


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ForeignServer]:
    """Run devices that a test may kill."""
    with ForeignServer(tmp_path, "mortal", ("SlowLamp", "Lamp", "Meter")) as server:
        yield server


@pytest.fixture
def child(server: ForeignServer) -> Iterator[Callable[..., ChildDevice]]:
    """Return a function that makes a child of the class given."""
    children: list[ChildDevice] = []

    def make(class_name: str, **keywords: object) -> ChildDevice:
        children.append(child_device(server.trl(class_name), **keywords))  # type: ignore[arg-type]
        return children[-1]

    yield make
    for device in children:
        device.close()


def ended(device: ChildDevice, command: str, argument: str | None = None) -> Outcome:
    """Call a command and wait for its end."""
    outcome = device.start(command, argument).wait(20.0)
    assert outcome is not None
    return outcome


def sent(device: ChildDevice, command: str, argument: str | None = None) -> Invocation:
    """Call a command and wait until it is on its way."""
    under_way = threading.Event()

    def told(status: TaskStatus | None = None, **_: object) -> None:
        if status is TaskStatus.IN_PROGRESS:
            under_way.set()

    invocation = device.start(command, argument, told)
    assert under_way.wait(10.0), invocation.outcome()
    return invocation


def test_the_kind_is_found_out_at_connection(child: Callable[..., ChildDevice]) -> None:
    """Protocol attributes: lrc; an expectation: state; neither: plain. By command."""
    lamp, legacy = child("Lamp", expectations={"On": ON}), child("LegacyLrc")
    for device in (lamp, legacy):
        device.connect()

    assert [lamp.kind_of(command) for command in ("On", "Stop")] == ["state", "plain"]
    assert [legacy.kind_of(command) for command in ("Configure", "Version")] == ["lrc", "plain"]


@pytest.mark.parametrize("lamp", ["Lamp", "SilentLamp"])
def test_the_work_is_over_when_state_says_so(child: Callable[..., ChildDevice], lamp: str) -> None:
    """With events and without; the command's return alone ends nothing."""
    device = child(lamp, expectations=UNTIL, period=0.1)
    updates: list[dict[str, object]] = []

    invocation = device.start("On", None, lambda **news: updates.append(news))
    outcome = invocation.wait(15.0)

    assert outcome is not None
    assert outcome.is_ok
    assert outcome.seconds >= 0.3
    assert outcome.message.endswith("On is done: State is ON")
    assert outcome.command_id is not None
    assert outcome.command_id.endswith("_On")
    assert [update["status"] for update in updates if "status" in update] == [
        TaskStatus.IN_PROGRESS,
        TaskStatus.COMPLETED,
    ]
    assert ended(device, "Off").is_ok


def test_a_child_that_is_there_already_is_skipped(
    child: Callable[..., ChildDevice], server: ForeignServer
) -> None:
    """The command is not sent, and the text says so."""
    device = child("Lamp", expectations=UNTIL, skip_when_reached=True)
    assert ended(device, "On").is_ok
    calls = tango.DeviceProxy(server.trl("Lamp")).calls_made

    outcome = ended(device, "On")

    assert outcome.is_ok
    assert outcome.message.endswith("On was not sent: State is ON already")
    assert tango.DeviceProxy(server.trl("Lamp")).calls_made == calls
    assert ended(device, "Off").is_ok


def test_a_failure_value_is_a_failure(child: Callable[..., ChildDevice]) -> None:
    """Told with the value, long before the deadline."""
    outcome = ended(child("BrokenLamp", expectations=UNTIL), "On")

    assert (outcome.status, outcome.result_code) == (TaskStatus.FAILED, ResultCode.FAILED)
    assert outcome.message.endswith("On failed: State is FAULT")


def test_a_device_can_be_brought_out_of_its_failure_value(
    child: Callable[..., ChildDevice],
) -> None:
    """A FAULT from before the command, seen once more after it, does not end it."""
    outcome = ended(child("FaultyLamp", expectations=UNTIL, period=0.05), "Reset")

    assert outcome.is_ok, outcome.message


def test_a_missed_deadline_names_what_was_found_and_expected(
    child: Callable[..., ChildDevice],
) -> None:
    """And comes in time."""
    late = Expectation(reached=("ON", "RUNNING"), timeout=0.5)

    outcome = ended(child("SlowLamp", expectations={"On": late}), "On")

    assert outcome.status is TaskStatus.FAILED
    assert outcome.message.endswith("State is OFF after 0.5 s, expected ON or RUNNING")
    assert 0.5 <= outcome.seconds < 4.0


def test_an_aborted_lamp_is_told_to_stop(child: Callable[..., ChildDevice]) -> None:
    """`Stop`, since it has no `Abort`."""
    invocation = sent(child("SlowLamp", expectations=UNTIL), "On")
    invocation.abort()

    outcome = invocation.wait(5.0)

    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.ABORTED, ResultCode.ABORTED)
    assert outcome.message.endswith("On was aborted: the device took Stop")


def test_a_synchronous_command_may_take_longer_than_tango_waits(
    child: Callable[..., ChildDevice],
) -> None:
    """Four seconds, and another device answers meanwhile."""
    meter, lamp = child("Meter"), child("SilentLamp", expectations=UNTIL, period=0.1)
    invocation = meter.start("Measure", "4.0")

    assert ended(lamp, "On").is_ok
    assert not invocation.is_done
    outcome = invocation.wait(10.0)

    assert outcome is not None
    assert outcome.is_ok
    assert outcome.message.endswith("Measure returned measured for 4 s")
    assert ended(lamp, "Off").is_ok


def test_a_safety_command_does_not_wait_for_the_calls_before_it(
    child: Callable[..., ChildDevice],
) -> None:
    """Only for the one that the device is at."""
    meter = child("Meter")
    ends: list[str] = []

    def noted(name: str) -> Callable[..., None]:
        def told(status: TaskStatus | None = None, **_: object) -> None:
            if status is TaskStatus.COMPLETED:
                ends.append(name)

        return told

    sent(meter, "Measure", "0.5")
    waiting = [meter.start("Measure", "1.0", noted(f"Measure {n}")) for n in range(4)]

    outcome = meter.start("Echo", "now", noted("Echo"), urgent=True).wait(10.0)

    assert outcome is not None
    assert outcome.is_ok
    assert all(one.wait(10.0) for one in waiting)
    assert set(ends) == {"Echo", *(f"Measure {n}" for n in range(4))}
    assert ends[-1] != "Echo"


@pytest.fixture
def busy_meter(
    server: ForeignServer, child: Callable[..., ChildDevice]
) -> Iterator[Callable[[], ChildDevice]]:
    """Make a child that a test leaves before it has done its work; others find it idle again."""
    yield lambda: child("Meter")
    proxy = tango.DeviceProxy(server.trl("Meter"))
    proxy.set_timeout_millis(30_000)

    def is_idle() -> bool:
        try:
            return bool(proxy.command_inout("Echo", "idle") == "idle")
        except tango.DevFailed:  # a device that is busy has Tango say so after three seconds
            return False

    look_until(is_idle, "it does not end")


def test_a_synchronous_command_that_cannot_be_aborted_says_so(
    busy_meter: Callable[[], ChildDevice],
) -> None:
    """It is not waited for any more; one that waited for its turn is never sent."""
    meter = busy_meter()
    running, waiting = sent(meter, "Measure", "4.0"), meter.start("Measure", "4.0")
    assert waiting.wait_accepted(5.0)
    waiting.abort()
    running.abort()

    ends = [invocation.wait(3.0) for invocation in (running, waiting)]

    texts = {end.message.partition(": ")[2]: end.status for end in ends if end is not None}
    assert texts == {
        "Measure cannot be aborted: the device has neither Abort nor Stop; it is not followed any"
        " more": TaskStatus.FAILED,
        "Measure was aborted before it was sent": TaskStatus.ABORTED,
    }


def test_a_synchronous_command_has_a_deadline(busy_meter: Callable[[], ChildDevice]) -> None:
    """The one given with the command, or with the child."""
    outcome = busy_meter().start("Measure", "4.0", timeout=0.4).wait(5.0)

    assert outcome is not None
    assert outcome.status is TaskStatus.FAILED
    assert "Measure has not returned within 0.4 s" in outcome.message
    assert outcome.seconds < 3.9  # not by waiting for its return


@pytest.mark.parametrize(
    ("command", "argument", "status", "text"),
    [
        ("Sum", "[1, 2, 3]", TaskStatus.COMPLETED, "Sum returned 6"),
        ("Echo", '{"as": "it is"}', TaskStatus.COMPLETED, 'Echo returned {"as": "it is"}'),
        ("Echo", None, TaskStatus.COMPLETED, "Echo returned "),
        ("Sum", '[1, "2"]', TaskStatus.REJECTED, "expected a JSON list for DevVarLong64Array"),
        ("Measure", None, TaskStatus.REJECTED, "found nothing, expected a number (DevDouble)"),
        ("Fail", "{}", TaskStatus.REJECTED, "found '{}', expected no argument"),
        ("Fail", None, TaskStatus.FAILED, "Fail failed: RuntimeError: the probe is wet"),
        ("Forbidden", None, TaskStatus.REJECTED, "Command Forbidden not allowed"),
        ("Fly", None, TaskStatus.REJECTED, "has no command Fly; it has Die, Echo"),
    ],
)
def test_what_a_plain_command_takes_and_says(
    child: Callable[..., ChildDevice],
    command: str,
    argument: str | None,
    status: TaskStatus,
    text: str,
) -> None:
    """Any scalar or list as JSON, strings as they are; a value or a refusal in the message."""
    outcome = ended(child("Meter"), command, argument)

    assert outcome.status is status
    assert text in outcome.message


def test_a_legacy_device_is_followed_and_aborted(child: Callable[..., ChildDevice]) -> None:
    """lrc-protocol (i): version 1 by hand; nothing of version 2, no Abort, no status by id."""
    device = child("LegacyLrc")
    progress: list[object] = []
    outcome = device.start(
        "Configure", "x", lambda **news: progress.append(news.get("progress"))
    ).wait(10.0)
    assert outcome is not None
    assert (outcome.is_ok, outcome.message) == (True, "x")
    assert {"33", "66"} & {str(value) for value in progress}

    invocation = device.invoke("Configure", "hold")
    invocation.abort()
    aborted = invocation.wait(10.0)

    assert aborted is not None
    assert aborted.status is TaskStatus.ABORTED


def test_a_safety_command_is_not_ended_by_the_abort_of_what_it_interrupts(
    child: Callable[..., ChildDevice], wait_until: WaitUntil
) -> None:
    """A device that cannot abort one command by its id refuses all until its abort is over."""
    device = child("LegacyLrc")
    running = device.invoke("Configure", "hold")
    running.abort()
    wait_until(lambda: running.abort_answer is not None)

    outcome = device.start("Configure", "stow", urgent=True).wait(10.0)

    assert outcome is not None
    assert (outcome.is_ok, outcome.message) == (True, "stow")
    aborted = running.wait(0.0)
    assert aborted is not None
    assert aborted.status is TaskStatus.ABORTED


def test_odd_replies(child: Callable[..., ChildDevice]) -> None:
    """lrc-protocol (f) 3: two texts are understood, nonsense is told as what it is."""
    device = child("LegacyLrc")

    assert ended(device, "Texts").message == "two texts"
    assert ended(device, "Version").message.endswith("Version returned 1.2.3")
    assert "expected ([ResultCode], [text])" in ended(device, "Odd").message
    with pytest.raises(ProtocolError, match="expected"):
        device.invoke("Odd")


def test_a_state_child_without_an_expectation_says_what_is_missing(
    child: Callable[..., ChildDevice],
) -> None:
    """Kind state, given by hand, for a command of which nobody said when it is over."""
    outcome = ended(child("Lamp", kind=ChildKind.STATE, expectations={"On": ON}), "Off")

    assert outcome.status is TaskStatus.REJECTED
    assert "nothing says when Off is over" in outcome.message


def test_all_kinds_share_one_connection(
    child: Callable[..., ChildDevice], wait_until: WaitUntil
) -> None:
    """One subscription per attribute, however many watch."""
    first, second = (child("Lamp", expectations=UNTIL) for _ in range(2))
    seen: list[list[Sighting]] = [[], [], []]
    watches = [
        first.watch("State", seen[0].append),
        first.watch("state", seen[1].append),
        second.watch("State", seen[2].append),
    ]
    assert ended(second, "On").is_ok
    assert ended(second, "Off").is_ok

    assert first.statistics()["watch_subscriptions"] == 1
    wait_until(lambda: first.statistics() == second.statistics())  # unless a read comes between
    for watch in watches:
        watch.close()
    assert first.statistics()["watched"] == 0


@pytest.mark.parametrize("lamp", ["Lamp", "SilentLamp"])
def test_a_state_is_watched_by_event_or_by_read(
    child: Callable[..., ChildDevice], wait_until: WaitUntil, lamp: str
) -> None:
    """Now and at each change, in order, once each."""
    device = child(lamp, expectations=UNTIL, period=0.1)
    seen: list[Sighting] = []
    device.watch("State", seen.append)
    wait_until(lambda: bool(seen))
    assert ended(device, "On").is_ok
    wait_until(lambda: seen[-1].value == "ON")
    assert ended(device, "Off").is_ok
    wait_until(lambda: seen[-1].value == "OFF")

    assert [sighting.value for sighting in seen] == ["OFF", "ON", "OFF"]
    assert all(sighting.connected for sighting in seen)


def test_an_attribute_that_is_not_there_is_told(
    child: Callable[..., ChildDevice], wait_until: WaitUntil
) -> None:
    """As for healthState of a plain device."""
    seen: list[Sighting] = []
    child("Lamp").watch("healthState", seen.append)
    wait_until(lambda: bool(seen))

    assert seen[0].reason == "the device has no attribute healthState"
    assert (seen[0].value, seen[0].connected) == (None, True)


def test_who_watches_a_child_that_is_known_to_be_down_is_told(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """At once, and not only when it comes back."""
    server = ForeignServer(tmp_path, "late", ("Lamp",))
    seen: list[Sighting] = []
    with child_device(server.trl("Lamp")) as device:
        wait_until(lambda: "cannot be reached" in device.reason)
        device.watch("State", seen.append)
        wait_until(lambda: bool(seen))
    assert (seen[0].connected, seen[0].reason) == (False, device.reason)


def test_a_child_that_is_down_at_the_start_and_restarts_is_found(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Up, down with the reason, and up again are told; commands work after each."""
    server = ForeignServer(tmp_path, "late", ("Lamp",))
    seen: list[Sighting] = []
    with child_device(server.trl("Lamp"), expectations=UNTIL) as device:
        device.watch("State", seen.append)
        wait_until(lambda: bool(seen))
        assert (seen[0].connected, seen[0].value) == (False, None)
        assert seen[0].reason
        with pytest.raises(Unreachable):
            device.invoke("On")

        with server:
            wait_until(lambda: seen[-1].connected and seen[-1].value == "OFF")
            assert ended(device, "On").is_ok
            server.process.signal(signal.SIGKILL)
            assert server.process.wait(5.0)
            wait_until(lambda: not seen[-1].connected)
            server.start()

            wait_until(lambda: seen[-1].connected and seen[-1].value == "OFF")
            assert device.is_connected
            assert ended(device, "On").is_ok
            wait_until(lambda: seen[-1].value == "ON")
            assert device.statistics()["reconnections"] == 1


@pytest.mark.slow
def test_a_command_of_a_child_that_dies_is_lost(
    mortal: ForeignServer, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TR-14: a state child within the limit, a synchronous one at once."""
    monkeypatch.setattr(ForeignCalls, "LOST_AFTER", 3.0)
    with (
        child_device(mortal.trl("SlowLamp"), expectations={"On": ON}) as lamp,
        child_device(mortal.trl("Meter")) as meter,
    ):
        on, measure = sent(lamp, "On"), sent(meter, "Measure", "30.0")
        wait_until(lambda: lamp.statistics()["calls_running"] == 0)
        mortal.process.signal(signal.SIGKILL)

        measured, switched = measure.wait(3.0), on.wait(8.0)

    assert measured is not None
    assert measured.result_code is ResultCode.UNKNOWN
    assert "Measure is lost" in measured.message
    assert switched is not None
    assert switched.result_code is ResultCode.UNKNOWN
    assert "On is lost: no answer for " in switched.message


LANE_OF_METER = "milonga-plain mortal/meter/1"


@pytest.mark.slow
def test_a_child_that_hangs_holds_up_nobody(
    mortal: ForeignServer, child: Callable[..., ChildDevice]
) -> None:
    """T7: its commands have their deadlines and are lost in time; threads do not pile up."""
    lamp = child("SilentLamp", expectations=UNTIL, period=0.1)
    with child_device(mortal.trl("Meter"), timeout=0.5) as meter:
        meter.connect()
        mortal.process.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            late = [meter.start("Measure", "0.1") for _ in range(10)]
            lost = meter.start("Measure", "0.1", timeout=60.0)
            threads = [t.name for t in threading.enumerate() if t.name.startswith(LANE_OF_METER)]
            assert ended(lamp, "On").is_ok
            assert ended(lamp, "Off").is_ok
            ends = [invocation.wait(5.0) for invocation in late]
            assert time.monotonic() - began < 5.0
            outcome = lost.wait(16.0)
        finally:
            mortal.process.signal(signal.SIGCONT)

    assert all(end is not None and end.status is TaskStatus.FAILED for end in ends)
    assert len(threads) <= 1
    assert outcome is not None
    assert outcome.status is TaskStatus.FAILED
    assert outcome.seconds < 16.0


LEAVING = """
import sys
from milonga.lrc import Expectation, child_device
lamp, meter = sys.argv[1:]
device = child_device(lamp, expectations={"On": Expectation(timeout=60.0)})
device.watch("State", lambda sighting: None)
device.invoke("On")
child_device(meter).invoke("Measure", "2.5", timeout=60.0).wait(0.3)
sys.exit(7)
"""


def test_a_process_can_end_while_commands_are_on_their_way(server: ForeignServer) -> None:
    """T3: no abort, no wait for the device, and the exit code is the program's own."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LEAVING, server.trl("SlowLamp"), server.trl("Meter")],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 7, done.stderr
    assert done.stderr == ""
    assert time.monotonic() - began < 25.0
