"""One device server under the load of many clients."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from milonga.deploy import System, Topology

SECONDS = 30
CLIENTS = 4

TOPOLOGY = """
name: hammer
subarrays:
  - {device: hammer/subarray/1, id: 1, server: one, children: [leaf]}
leaves:
  - {name: leaf, device: hammer/leaf/0, server: one}
"""


@pytest.mark.slow
def test_four_clients_cannot_make_a_server_lose_an_end_or_stop(tmp_path: Path) -> None:
    """Traps T3, T4, cppTango 762 and 935, pytango 292 and 315.

    Parent and child live in one process, so events are pushed from Tango's threads, from the
    devices' own and from the event thread, all at once.
    """
    with System(Topology.from_text(TOPOLOGY), log_folder=tmp_path) as system:
        trl = system.trl("subarray-01")
        _switch_on(trl)
        clients = [
            subprocess.Popen(
                [
                    *(sys.executable, str(Path(__file__).with_name("_hammer_client.py"))),
                    *(trl, str(SECONDS), str(seed)),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for seed in range(CLIENTS)
        ]
        outputs = [client.communicate(timeout=SECONDS + 60) for client in clients]
        assert [client.returncode for client in clients] == [0] * CLIENTS, outputs
        counts = [json.loads(out) for out, _ in outputs]
        server = next(process for process in system.processes if process.name == "one")
        assert server.running, server.tail()
        server.signal(15)
        assert server.wait(10.0), "the server did not end in ten seconds"
        assert server.returncode == 0, server.tail()

    assert sum(row["called"] for row in counts) > 100
    assert [row["missed"] for row in counts] == [0] * CLIENTS, counts
    assert [row["twice"] for row in counts] == [0] * CLIENTS, counts


def _switch_on(trl: str) -> None:
    script = (
        "import sys; from milonga.lrc import LrcDevice\n"
        "with LrcDevice(sys.argv[1]) as device:\n"
        "    assert device.invoke('On').wait(10).is_ok\n"
    )
    subprocess.run([sys.executable, "-c", script, trl], check=True)
