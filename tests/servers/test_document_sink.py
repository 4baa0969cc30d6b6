"""Documents that go on from a device to a Tiled server, which may be away."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import tango

from milonga.deploy import System, Topology
from milonga.lrc import LrcDevice

from ..free_ports import free_port

pytest.importorskip("tiled", reason="Milonga is not installed with its extra 'tiled'")

KEY = "secret"
COMMAND = os.environ.get("MILONGA_TILED", "")
"""Path of the command `tiled`, of another environment: its server needs an older SQLAlchemy."""

with_server = pytest.mark.skipif(
    not shutil.which(COMMAND), reason="MILONGA_TILED is not the path of a Tiled server's command"
)

TOPOLOGY = """
name: sink
subarrays:
  - device: sink/subarray/1
    id: 1
    server: planner
    children: [leaf]
    data_folder: DATA
    document_sink: URL
    plans: ["milonga.engine.plans:scan"]
leaves:
  - {name: leaf, device: sink/leaf/1, server: planner}
plan_devices:
  - name: motor
    device: sink/motor/1
    type: motor
    server: instruments
    properties: {Velocity: 200.0}
  - name: detector
    device: sink/detector/1
    type: detector
    server: instruments
    properties: {Motor: sink/motor/1, Noise: 0.0, Exposure: 0.005}
servers:
  planner: {environment: {TILED_API_KEY: PASSWORD, TILED_RETRY_ATTEMPTS: "1"}}
"""
SCAN = {"detectors": ["detector"], "motor": "motor", "start": -2.0, "stop": 2.0, "num": 9}
DOCUMENTS = 12  # of a scan: start, descriptor, nine events, stop


class Server:
    """A Tiled server that can be away."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it had before."""
        folder = self._folder
        command = [COMMAND, "serve", "catalog", str(folder / "catalog.db"), "--init"]
        for place in (str(folder / "data"), f"duckdb:///{folder / 'tables.duckdb'}"):
            command += ["--write", place]
        command += ["--api-key", KEY, "--port", str(self.port)]
        with (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60.0
        while not self._answers():
            assert self._process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < end, "the Tiled server did not start"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/", timeout=5):  # noqa: S310
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10.0)
            self._process = None

    def runs(self) -> dict[str, Any]:
        """Return the runs that it has, by their uids."""
        catalogue = import_module("tiled.client").from_uri(self.url, api_key=KEY, remember_me=False)
        try:
            return {uid: _described(catalogue[uid]) for uid in catalogue}
        finally:
            catalogue.context.http_client.close()


def _described(run: Any) -> tuple[Any, Any, list[int], list[float]]:
    events = run["primary"].read()
    return (
        run.metadata["start"],
        run.metadata["stop"],
        events["seq_num"].values.tolist(),
        events["motor-position"].values.tolist(),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that is away."""
    server = Server(tmp_path_factory.mktemp("tiled"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def system(folder: Path, server: Server) -> Iterator[System]:
    """Run a subarray that delivers its documents."""
    text = TOPOLOGY.replace("DATA", str(folder)).replace("URL", server.url).replace("PASSWORD", KEY)
    with System(Topology.from_text(text)) as system:
        yield system


@pytest.fixture
def scans(system: System, proxy: tango.DeviceProxy) -> Iterator[Callable[[int], list[float]]]:
    """Return what runs scans, and says how long each has taken."""
    with LrcDevice(system.trl("subarray-01")) as device:

        def run(number: int) -> list[float]:
            took = []
            for _ in range(number):
                before = time.monotonic()
                argument = json.dumps({"plan": "scan", "arguments": SCAN})
                outcome = device.invoke("RunPlan", argument).wait(30.0)
                took.append(time.monotonic() - before)
                assert outcome is not None
                assert outcome.is_ok, outcome.message
            return took

        yield run


def test_a_sink_that_is_away_fails_no_plan(
    proxy: tango.DeviceProxy, folder: Path, scans: Callable[[int], list[float]]
) -> None:
    """Peers 22: what waits is counted and told, and is still there after Init."""
    told: list[int] = []
    subscription = proxy.subscribe_event(
        "documentsWaiting",
        tango.EventType.CHANGE_EVENT,
        lambda event: told.append(event.attr_value.value),
    )
    before = proxy.documentsWaiting
    scans(2)

    assert proxy.documentsWaiting == before + 2 * DOCUMENTS
    assert len(list(folder.glob("*.jsonl"))) * DOCUMENTS == proxy.documentsWaiting
    proxy.Init()
    end = time.monotonic() + 10.0
    while told[-1:] != [before + 2 * DOCUMENTS]:
        assert time.monotonic() < end, told
        time.sleep(0.02)
    proxy.unsubscribe_event(subscription)
    assert proxy.documentsWaiting == before + 2 * DOCUMENTS


@with_server
def test_all_runs_arrive_once_when_the_server_is_back(
    server: Server,
    proxy: tango.DeviceProxy,
    folder: Path,
    scans: Callable[[int], list[float]],
    wait_until: Callable[..., None],
) -> None:
    """Five plans while it is away; each run is there once, complete and in order. Ratio printed."""
    away = scans(5)
    assert proxy.documentsWaiting >= 5 * DOCUMENTS
    server.start()
    wait_until(lambda: proxy.documentsWaiting == 0, 90.0)
    there = scans(5)
    wait_until(lambda: proxy.documentsWaiting == 0, 30.0)

    runs = server.runs()
    files = {path.stem: path for path in folder.glob("*.jsonl")}
    assert runs.keys() == files.keys()
    for uid, (start, stop, numbers, positions) in runs.items():
        lines = [json.loads(line) for line in files[uid].read_text().splitlines()]
        assert (start, stop) == (lines[0][1], lines[-1][1])
        events = [document for name, document in lines if name == "event"]
        assert numbers == [event["seq_num"] for event in events] == list(range(1, 10))
        assert positions == [event["data"]["motor-position"] for event in events]
    ratio = sorted(away)[2] / sorted(there)[2]
    print(f"a plan while the sink is away takes {ratio:.3f} times as long")  # noqa: T201
    assert ratio < 5.0


@with_server
@pytest.mark.filterwarnings("ignore:The order of arguments:DeprecationWarning")  # bluesky's
def test_what_is_there_in_part_is_written_anew(
    server: Server,
    proxy: tango.DeviceProxy,
    folder: Path,
    scans: Callable[[int], list[float]],
    wait_until: Callable[..., None],
) -> None:
    """As after kill -9 in mid-delivery, and after one that came before the run was noted."""
    server.stop()
    scans(2)
    first, second = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)[-2:]
    server.start()
    catalogue = import_module("tiled.client").from_uri(server.url, api_key=KEY, remember_me=False)
    write = import_module("bluesky.callbacks.tiled_writer").TiledWriter
    for path, left_out in ((first, 1), (second, 0)):
        if path.stem in catalogue:  # delivered in the meantime: no harm, but nothing to be seen
            continue
        writer = write(catalogue, batch_size=2)
        for line in path.read_text().splitlines()[: None if not left_out else -left_out]:
            writer(*json.loads(line))
    catalogue.context.http_client.close()

    wait_until(lambda: proxy.documentsWaiting == 0, 90.0)

    runs = server.runs()
    for path in (first, second):
        _start, stop, numbers, _positions = runs[path.stem]
        assert stop["exit_status"] == "success"
        assert numbers == list(range(1, 10))
