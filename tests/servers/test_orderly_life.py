"""The life of a system: started in any order, with a record store of another release, ended."""

import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import tango
from sqlalchemy import create_engine, text

from milonga.control_model import ResultCode
from milonga.deploy import System, Topology
from milonga.lrc import client
from milonga.records import latest_version
from milonga.records._engine import Synchronous, as_url, make_engine
from milonga.records._migrate import current_version, migrate

from ..free_ports import free_ports

SERVERS = ("central", "parents", "leaves")
ALL_READY = 60.0
"""Seconds until everything must be ready, whatever the order."""

LAB = {
    "name": "lab",
    "controller": {"device": "lab/control/1", "server": "central"},
    "subarrays": [{"device": "lab/subarray/1", "id": 1, "server": "parents", "children": ["leaf"]}],
    "leaves": [{"name": "leaf", "device": "lab/leaf/1", "server": "leaves"}],
}

# a round takes about five seconds: all twenty of them by MILONGA_ROUNDS=20
ROUNDS = int(os.environ.get("MILONGA_ROUNDS", "2"))


def is_ready(port: int) -> bool:
    """Tell what the probe of readiness says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_servers_start_in_any_order(
    seed: int, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """No process ends; all are ready in time; a command reaches the leaf; all end when told."""
    (tmp_path / "lab.json").write_text(json.dumps(LAB), encoding="utf-8")
    port, *health = free_ports(1 + len(SERVERS))
    probes = dict(zip(SERVERS, health, strict=True))
    host = f"127.0.0.1:{port}"
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    order = chance.sample(["database", *SERVERS], 1 + len(SERVERS))
    running: dict[str, subprocess.Popen[bytes]] = {}
    environment = os.environ | {"TANGO_HOST": host, "MILONGA_DATA": str(tmp_path / "data")}
    began = time.monotonic()
    try:
        for name in order:
            command = ["serve", name, "--topology", "lab.json"]
            if name == "database":
                command = ["database", "--port", str(port), "--folder", "db"]
            more = {"MILONGA_HEALTH_PORT": str(probes[name])} if name in probes else {}
            with (tmp_path / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", "milonga", *command],
                    cwd=tmp_path,
                    env=environment | more,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            time.sleep(chance.uniform(0.0, 1.0))  # the order in time is what is tried

        def all_ready() -> bool:
            for name, process in running.items():
                told = (tmp_path / f"{name}.log").read_text(encoding="utf-8")
                assert process.poll() is None, f"{order}: {name} ended: {told}"
            return all(map(is_ready, probes.values()))

        wait_until(all_ready, ALL_READY)
        top = f"tango://{host}/lab/control/1"

        def is_up() -> bool:
            return bool(tango.DeviceProxy(top).State() is tango.DevState.OFF)

        wait_until(is_up, ALL_READY)
        outcome = client.run(top, "On", timeout=30.0)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(20.0)

    assert outcome.result_code is ResultCode.OK, f"{order}: {outcome}"
    assert time.monotonic() - began < ALL_READY + 30.0


def alone(store: Path) -> Topology:
    """Return a subarray with a record store."""
    data = {key: value for key, value in LAB.items() if key != "controller"}
    data["servers"] = {"parents": {"environment": {"MILONGA_RECORDS": str(store)}}}
    return Topology.from_text(json.dumps(data))


def test_an_older_record_store_is_migrated_at_the_start(tmp_path: Path) -> None:
    """Nobody has to do anything; the device works."""
    store = tmp_path / "records.db"
    engine = make_engine(as_url(str(store)), synchronous=Synchronous.NORMAL, busy_timeout=5.0)
    migrate(engine, "0001")
    assert current_version(engine) == "0001"

    with System(alone(store)) as system:
        outcome = client.run(system.trl("subarray-01"), "On", timeout=30.0)

    assert outcome.result_code is ResultCode.OK
    assert current_version(engine) == latest_version()
    engine.dispose()


def test_a_record_store_of_a_later_release_is_refused_by_the_device(tmp_path: Path) -> None:
    """The device is in FAULT, its Status says what to do, and commands are rejected."""
    store = tmp_path / "records.db"
    engine = make_engine(as_url(str(store)), synchronous=Synchronous.NORMAL, busy_timeout=5.0)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with System(alone(store)) as system:
        device = tango.DeviceProxy(system.trl("subarray-01"))

        assert device.State() is tango.DevState.FAULT
        assert "version 9999, which a later release made" in device.Status()
        assert "Update Milonga" in device.Status()
        (code,), _why = device.AssignResources('{"r": ["r1"]}')
        assert code == ResultCode.REJECTED
    with create_engine(as_url(str(store))).connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert found == "9999"
