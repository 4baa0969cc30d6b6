"""The client library, with Milonga's devices and with others."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import tango
from tests.servers.foreign_fixtures import ForeignServer

from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import System, Topology
from milonga.errors import (
    ArgumentError,
    CommandRejected,
    CommandTimeout,
    ProtocolError,
    Unreachable,
)
from milonga.lrc import Expectation, client

from .plain_client import look_until

TOPOLOGY = """
name: client
subarrays:
  - {device: client/subarray/1, id: 1, server: one, children: [leaf]}
leaves:
  - {name: leaf, device: client/leaf/1, server: one}
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    """Run devices that are not Milonga's."""
    folder = tmp_path_factory.mktemp("client")
    with ForeignServer(folder, "client", ("LegacyLrc", "Lamp", "Meter")) as server:
        yield server


@pytest.fixture(scope="module")
def v1(foreign: ForeignServer) -> str:
    """Return a device of protocol version 1."""
    return foreign.trl("LegacyLrc")


@pytest.fixture(scope="module")
def v2() -> Iterator[str]:
    """Return a device of protocol version 2: a leaf whose commands take 0.4 s."""
    with System(Topology.from_text(TOPOLOGY)) as system:
        proxy = tango.DeviceProxy(system.trl("leaf"))
        proxy.script = json.dumps(
            {"*": {"duration": 0.4, "steps": 4}, "Standby": {"outcome": "never"}}
        )
        yield system.trl("leaf")


def test_one_call_submits_and_follows_with_progress(v1: str, v2: str) -> None:
    """Both versions of the protocol; a mapping goes as JSON."""
    seen: dict[str, list[object]] = {v1: [], v2: []}

    legacy = client.run(v1, "Configure", {"id": 1}, timeout=10.0, on_progress=seen[v1].append)
    modern = client.run(v2, "On", timeout=10.0, on_progress=seen[v2].append)

    assert legacy.is_ok
    assert json.loads(legacy.message) == {"id": 1}
    assert modern.is_ok
    assert seen[v1]
    assert len(seen[v2]) >= 2
    assert client.run(v2, "Off", timeout=10.0).is_ok


def test_what_goes_wrong_is_an_exception_that_says_what(
    v1: str, v2: str, foreign: ForeignServer
) -> None:
    """Refused, unknown, unreachable, another protocol, no JSON, too late."""
    with pytest.raises(CommandRejected, match="not today"):
        client.run(v1, "Refuse", timeout=5.0)
    with pytest.raises(CommandRejected, match="has no command Fly"):
        client.run(v1, "Fly", timeout=5.0)
    with pytest.raises(Unreachable, match="cannot be reached"):
        client.run("tango://127.0.0.1:1/no/such/device#dbase=no", "On", timeout=5.0)
    with pytest.raises(ProtocolError, match="offers no long-running commands"):
        client.run(foreign.trl("Lamp"), "On", timeout=5.0)
    with pytest.raises(ProtocolError, match=r"expected \(\[ResultCode\], \[text\]\)"):
        client.run(v1, "Odd", timeout=5.0)
    with pytest.raises(ArgumentError, match="expected a text or what JSON can write"):
        client.run(v1, "Configure", {"id": object()}, timeout=5.0)
    with pytest.raises(CommandTimeout, match=r"Standby \(.+_Standby\) has not ended within 0.3 s"):
        client.run(v2, "Standby", timeout=0.3)
    assert client.run(v2, "Abort", timeout=10.0).is_ok


def test_a_submitted_command_can_be_aborted(v2: str) -> None:
    """The invocation is the caller's to follow."""
    statuses: list[object] = []
    invocation = client.submit(
        v2, "Standby", on_update=lambda **news: statuses.append(news.get("status"))
    )
    assert invocation.command_id is not None
    invocation.abort()

    outcome = invocation.wait(10.0)

    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.ABORTED, ResultCode.ABORTED)
    assert statuses[-1] is TaskStatus.ABORTED


def test_devices_without_the_protocol_by_request(foreign: ForeignServer) -> None:
    """`kind` or `until` says that the caller knows."""
    until = Expectation(reached=("ON",), timeout=10.0)

    assert client.run(foreign.trl("Meter"), "Sum", [1, 2], kind="auto").message.endswith("3")
    assert client.run(foreign.trl("Lamp"), "On", until=until).message.endswith("State is ON")


def test_many_at_a_time_in_asyncio(v1: str, v2: str) -> None:
    """`arun` waits for none of the others; `afollow` yields, the outcome last."""

    async def follow() -> list[client.Update]:
        return [update async for update in client.afollow(v1, "Configure", "x", timeout=10.0)]

    async def both() -> tuple[object, object, object]:
        seen: list[object] = []
        return await asyncio.gather(
            client.arun(v2, "On", timeout=10.0, on_progress=seen.append), follow(), asyncio.sleep(0)
        )

    outcome, updates, _ = asyncio.run(both())

    assert outcome.is_ok  # type: ignore[attr-defined]
    *before, last = updates  # type: ignore[misc]
    assert last.outcome.is_ok
    assert last.status is TaskStatus.COMPLETED
    assert all(update.outcome is None for update in before)
    assert any(update.progress is not None for update in before)
    assert client.run(v2, "Off", timeout=10.0).is_ok


def test_asyncio_errors_and_leaving_early(v1: str, v2: str) -> None:
    """Errors as those of `run`; a loop that is left, or a task that is cancelled, lets go."""

    async def late() -> None:
        await client.arun(v2, "Standby", timeout=0.2)

    async def early() -> TaskStatus | None:
        async for update in client.afollow(v1, "Configure", "x"):
            return update.status
        return None

    async def cancelled() -> None:
        task = asyncio.create_task(client.arun(v2, "Standby"))
        done, _ = await asyncio.wait({task}, timeout=0.2)
        assert not done
        task.cancel()
        await task

    with pytest.raises(CommandTimeout, match="Standby"):
        asyncio.run(late())
    with pytest.raises(CommandRejected):
        asyncio.run(client.arun(v1, "Refuse"))
    assert asyncio.run(early()) is not None
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert client.run(v2, "Abort", timeout=10.0).is_ok


def threads() -> int:
    """Count the threads of this process, without pools that grow to their bound with their use."""
    pools = ("milonga-call", "milonga-look", "milonga-abort")
    return sum(not each.name.startswith(pools) for each in threading.enumerate())


def test_threads_do_not_pile_up(v2: str) -> None:
    """Fifty calls later there are as many threads as after one."""
    client.run(v2, "On", timeout=10.0)
    proxy = tango.DeviceProxy(v2)
    proxy.script = "{}"
    try:
        client.run(v2, "Off", timeout=10.0)
        before = threads()
        for command in ("On", "Off") * 5:
            assert client.run(v2, command, timeout=10.0).is_ok
    finally:
        proxy.script = json.dumps(
            {"*": {"duration": 0.4, "steps": 4}, "Standby": {"outcome": "never"}}
        )

    look_until(lambda: threads() <= before, "threads are left")


@pytest.mark.parametrize(
    ("arguments", "code", "out"),
    [
        (("Configure", '{"id": 1}'), 0, 'COMPLETED OK: {"id": 1}'),
        (("Refuse",), 1, "not today"),
        (("Version",), 0, "Version returned 1.2.3"),
    ],
)
def test_it_is_a_program_too_and_leaves_nothing_behind(
    v1: str, arguments: tuple[str, ...], code: int, out: str
) -> None:
    """T3: live subscriptions do not abort the interpreter when it ends."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "milonga.lrc.client", v1, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == code, done.stderr
    assert out in done.stdout + done.stderr
    assert time.monotonic() - began < 25.0
