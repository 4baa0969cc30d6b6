"""Systems are started as real processes, and nothing of them is ever left behind."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tango

from milonga.deploy import Database, System, Topology, register
from milonga.errors import DeploymentError, Unreachable

HERE = Path(__file__).parent

TINY = """
name: tiny
subarrays: [{{device: tiny/subarray/01, id: 1, server: two, class: Tiny, children: [leaf]}}]
leaves:
  - name: leaf
    device: tiny/leaf/01
    server: one
    class: Tiny
    properties: {{Behaviour: {behaviour}}}
servers:
  one: &tiny
    command: ["{{python}}", "{program}"]
    tango_name: tiny_server
    classes: [Tiny]
  two: *tiny
"""


def tiny(behaviour: str = "good") -> Topology:
    """Describe two devices in two processes, one of which behaves as asked for."""
    text = TINY.format(behaviour=behaviour, program=HERE / "tiny_server.py")
    return Topology.from_text(text, "tiny.yaml")


def alive(pid: int) -> bool:
    """Tell whether a process does anything; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int], timeout: float = 10.0) -> list[int]:
    """Wait for processes that are not our children; give those that are still there."""
    deadline = time.monotonic() + timeout
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    return left


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder for temporary files that a test can look into."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _signals_as_on_a_terminal() -> Iterator[None]:
    """Programs that we start must not ignore Ctrl-C, even if we run in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def nothing_left(temporary: Path) -> Iterator[None]:
    """Fail a test that leaves a process or a temporary file."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not list(temporary.glob("milonga-*"))


def test_a_system_answers_once_it_is_started() -> None:
    """Each device runs in the process that the topology says, and knows its database."""
    with System(tiny()) as system:
        pids = {process.name: process.pid for process in system.processes}
        answers = {
            name: tango.DeviceProxy(system.trl(name)).Pid() for name in ("leaf", "subarray-01")
        }

    assert answers == {"leaf": pids["one"], "subarray-01": pids["two"]}
    assert len(set(pids.values())) == 3


def test_everything_listens_on_loopback_only() -> None:
    """Tango's own default is every interface of the machine."""
    with System(tiny()) as system:
        addresses = {
            connection.laddr.ip
            for process in system.processes
            for connection in psutil.Process(process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }

    assert addresses == {"127.0.0.1"}


def test_servers_have_process_groups_of_their_own() -> None:
    """Ctrl-C on a terminal must reach the owner, who then ends the servers in order."""
    with System(tiny()) as system:
        groups = {os.getpgid(process.pid or 0) for process in system.processes}

    assert os.getpgid(0) not in groups
    assert len(groups) == 3


def test_a_server_that_ends_at_once_is_reported_with_its_log() -> None:
    """The person sees what the server said, not a time-out."""
    with pytest.raises(DeploymentError, match=r"(?s)one ended with code 3.*I will not start"):
        System(tiny("exits")).start()


@pytest.mark.slow
def test_a_server_that_hangs_is_reported_by_the_device_that_is_missing() -> None:
    """The deadline is kept, and names the device and its process."""
    with pytest.raises(DeploymentError, match=r"1 of 2 devices .* first tiny/leaf/01: process one"):
        System(tiny("hangs"), timeout=25.0).start()


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are not made to wait for more than the grace."""
    monkeypatch.setattr("milonga.deploy._processes.stop_all.__defaults__", (0.5,))
    told: list[str] = []

    with System(tiny("deaf"), tell=told.append):
        pass

    # On a slow machine the other one may take more than the grace as well.
    assert told[-1] in {"had to be killed: one", "had to be killed: one, two"}


def test_a_program_that_does_not_exist_is_named() -> None:
    """The database that was started for it is stopped again."""
    text = TINY.format(behaviour="good", program="x").replace("{python}", "no-such-program")

    with pytest.raises(DeploymentError, match="'no-such-program', expected a program"):
        System(Topology.from_text(text)).start()


def test_a_server_that_dies_later_is_noticed() -> None:
    """Its end can be asked for, with its log."""
    with System(tiny()) as system:
        pid = next(process.pid for process in system.processes if process.name == "one")
        os.kill(pid or 0, signal.SIGKILL)
        deadline = time.monotonic() + 10.0
        while not (ended := system.ended()) and time.monotonic() < deadline:
            select.select([], [], [], 0.02)
        texts = [process.ended() for process in ended]

    assert [text.splitlines()[0] for text in texts] == [
        "process one was ended by SIGKILL; end of its log:"
    ]


def test_a_system_can_be_started_again() -> None:
    """A killed server's old announcement is not taken for the new one's."""
    system = System(tiny())
    for _ in range(2):
        with system:
            pid = next(process.pid for process in system.processes if process.name == "one")
            assert tango.DeviceProxy(system.trl("leaf")).Pid() == pid


def test_a_taken_port_is_named(temporary: Path) -> None:
    """The port, the reason and what to do, in one line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DeploymentError, match=f"127.0.0.1:{port}: Address already in use"):
            Database(temporary, port=port).start()


def test_a_database_that_does_not_come_up_shows_its_log(temporary: Path) -> None:
    """A file that is no database makes the server say so."""
    file = temporary / "broken.db"
    file.write_text("this is no SQLite file, but a text that is long enough to be looked at" * 20)

    with pytest.raises(DeploymentError, match=r"(?s)did not start.*not a database"):
        Database(temporary, file=file).start()


def test_a_database_keeps_what_it_stored(temporary: Path) -> None:
    """The same file, started twice."""
    file = temporary / "kept.db"
    for round_ in range(2):
        database = Database(temporary, file=file)
        database.start()
        try:
            found = tango.Database(*database.tango_host.split(":"))
            if round_ == 0:
                register(tiny(), found)
            assert found.get_device_info("tiny/leaf/01").class_name == "Tiny"
        finally:
            database.stop()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tango.Database]:
    """Give a running database."""
    server = Database(tmp_path)
    server.start()
    yield tango.Database(*server.tango_host.split(":"))
    server.stop()


def test_registering_twice_changes_nothing(database: tango.Database) -> None:
    """Devices stay, and so do the properties that others gave them."""
    register(tiny(), database)
    database.put_device_property("tiny/leaf/01", {"Note": ["by hand"], "Script": ["{}"]})

    register(tiny("deaf"), database)

    names = ["Note", "Behaviour", "Script"]
    found = {
        name: list(value)
        for name, value in database.get_device_property("tiny/leaf/01", names).items()
    }
    assert found == {"Note": ["by hand"], "Behaviour": ["deaf"], "Script": []}
    assert list(database.get_device_exported("tiny/*")) == []


def test_a_device_of_somebody_else_is_not_taken(database: tango.Database) -> None:
    """Nothing is written when one device is taken."""
    info = tango.DbDevInfo()
    info.name, info._class, info.server = "tiny/leaf/01", "Motor", "motors/one"
    database.add_device(info)

    with pytest.raises(
        DeploymentError, match="found in server motors/one, expected tiny_server/one"
    ):
        register(tiny(), database)

    assert database.get_device_info("tiny/leaf/01").class_name == "Motor"
    assert list(database.get_device_name("tiny_server/two", "Tiny")) == []


def test_a_server_with_devices_of_somebody_else_is_not_joined(database: tango.Database) -> None:
    """Starting it would start their devices too."""
    info = tango.DbDevInfo()
    info.name, info._class, info.server = "other/leaf/01", "Tiny", "tiny_server/one"
    database.add_device(info)

    with pytest.raises(DeploymentError, match=r"devices of somebody else \(other/leaf/01\)"):
        register(tiny(), database)


def test_only_devices_that_were_ours_are_taken_out(database: tango.Database) -> None:
    """A device that the topology has lost goes, everybody else's stays."""
    register(tiny(), database)
    text = TINY.format(behaviour="good", program="x").replace("tiny/leaf/01", "tiny/leaf/02")

    register(Topology.from_text(text), database)

    assert sorted(database.get_device_member("tiny/leaf/*")) == ["02"]
    assert list(database.get_device_member("sys/database/*")) == ["2"]


def test_a_class_that_has_changed_takes_effect(database: tango.Database) -> None:
    """The database has the device already, of another class."""
    register(tiny(), database)
    database.put_device_property("tiny/leaf/01", {"Note": ["by hand"]})
    text = TINY.format(behaviour="good", program="x").replace("class: Tiny", "class: Other")
    text = text.replace("[Tiny]", "[Other]")

    register(Topology.from_text(text), database)

    assert database.get_device_info("tiny/leaf/01").class_name == "Other"
    assert list(database.get_device_name("tiny_server/one", "Tiny")) == []
    assert list(database.get_device_property("tiny/leaf/01", "Note")["Note"]) == ["by hand"]


def test_a_property_that_is_gone_from_the_topology_goes(database: tango.Database) -> None:
    """Also one that only the topology knew; what was set by hand stays."""
    register(tiny(), database)
    database.put_device_property("tiny/leaf/01", {"Note": ["by hand"]})
    text = TINY.format(behaviour="good", program="x").replace("Behaviour: good", "Mood: fine")

    register(Topology.from_text(text), database)

    found = database.get_device_property("tiny/leaf/01", ["Behaviour", "Mood", "Note"])
    values = {name: list(value) for name, value in found.items()}
    assert values == {"Behaviour": [], "Mood": ["fine"], "Note": ["by hand"]}


def test_a_database_that_is_there_is_used_and_left_alone(database: tango.Database) -> None:
    """Only the servers are started, and only they are stopped."""
    host = f"{database.get_db_host()}:{database.get_db_port()}"
    host = host.replace(socket.getfqdn(), "127.0.0.1").replace("localhost", "127.0.0.1")

    with System(tiny(), tango_host=host) as system:
        assert [process.name for process in system.processes] == ["one", "two"]
        with pytest.raises(DeploymentError, match="tiny_server/one runs already"):
            System(tiny(), tango_host=host).start()

    assert database.get_info()


def test_a_database_that_is_not_there_is_unreachable() -> None:
    """Said in one line with its address."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"no Tango database answers at {host}"):
            System(tiny(), tango_host=host).start()


OWNER = """
import sys, time
from milonga.deploy import System, Topology, ending_signals_interrupt

topology = Topology.load(sys.argv[1])
with ending_signals_interrupt():
    with System(topology, tell=lambda text: print(text, flush=True)) as system:
        print("up", *(process.pid for process in system.processes), flush=True)
        time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path: Path, temporary: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a program that owns a system."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.format(behaviour="good", program=HERE / "tiny_server.py"))
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


def pids_of(owner: "subprocess.Popen[str]") -> list[int]:
    """Wait until the owner's system is up; give the ids of its processes."""
    assert owner.stdout is not None
    for line in owner.stdout:
        if line.startswith("up "):
            return [int(word) for word in line.split()[1:]]
    raise AssertionError("the owner's system did not come up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_owner_ends_everything(
    owner: "subprocess.Popen[str]", number: signal.Signals
) -> None:
    """Ctrl-C, a supervisor and a closed terminal leave nothing behind."""
    pids = pids_of(owner)

    owner.send_signal(number)

    assert owner.wait(10.0) != 0
    assert [pid for pid in pids if alive(pid)] == []


def test_a_second_ctrl_c_does_not_stop_the_cleaning_up(owner: "subprocess.Popen[str]") -> None:
    """An impatient person leaves nothing behind either."""
    pids = pids_of(owner)

    while owner.poll() is None:
        owner.send_signal(signal.SIGINT)
        select.select([], [], [], 0.01)

    assert [pid for pid in pids if alive(pid)] == []


@pytest.mark.parametrize("words", ["starting a Tango database", "database at"])
def test_ctrl_c_while_it_starts_ends_what_was_started(
    owner: "subprocess.Popen[str]", words: str
) -> None:
    """Half a system is no system."""
    assert owner.stdout is not None
    assert any(words in line for line in owner.stdout)
    started = [child.pid for child in psutil.Process(owner.pid).children(recursive=True)]

    owner.send_signal(signal.SIGINT)

    assert owner.wait(10.0) != 0
    assert wait_until_gone(started, 0.0) == []


def test_servers_do_not_survive_a_killed_owner(
    owner: "subprocess.Popen[str]", temporary: Path
) -> None:
    """Nobody is left to clean up, so the kernel does; only files remain."""
    pids = pids_of(owner)

    owner.kill()
    owner.wait()

    assert wait_until_gone(pids) == []
    for folder in temporary.glob("milonga-*"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
