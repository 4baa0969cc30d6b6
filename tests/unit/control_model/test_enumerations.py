"""Names and values are those of the SKA control model."""

import subprocess
import sys
import textwrap
from enum import IntEnum
from pathlib import Path

import pytest

import milonga.control_model as model
from milonga.control_model import FINAL_STATUSES, TaskStatus, is_final

VALUES = {
    "ResultCode": "OK STARTED QUEUED FAILED UNKNOWN REJECTED NOT_ALLOWED ABORTED",
    "TaskStatus": "STAGING QUEUED IN_PROGRESS ABORTED NOT_FOUND COMPLETED REJECTED FAILED",
    "AdminMode": "ONLINE OFFLINE ENGINEERING NOT_FITTED RESERVED",
    "HealthState": "OK DEGRADED FAILED UNKNOWN",
    "ControlMode": "REMOTE LOCAL",
    "SimulationMode": "FALSE TRUE",
    "TestMode": "NONE TEST",
    "LoggingLevel": "OFF FATAL ERROR WARNING INFO DEBUG",
    "ObsState": "EMPTY RESOURCING IDLE CONFIGURING READY SCANNING ABORTING ABORTED RESETTING FAULT"
    " RESTARTING",
    "ObsMode": "IDLE IMAGING PULSAR_SEARCH PULSAR_TIMING DYNAMIC_SPECTRUM TRANSIENT_SEARCH VLBI"
    " CALIBRATION",
    "PowerState": "UNKNOWN NO_SUPPLY OFF STANDBY ON",
}


@pytest.mark.parametrize("name", VALUES)
def test_members_have_the_values_of_the_wire(name: str) -> None:
    """lrc-protocol (a): members in value order from 0."""
    enumeration: type[IntEnum] = getattr(model, name)

    assert {member.name: member.value for member in enumeration} == {
        member: value for value, member in enumerate(VALUES[name].split())
    }


def test_communication_status_counts_from_one() -> None:
    """lrc-protocol (a): the trap among the values."""
    assert [member.value for member in model.CommunicationStatus] == [1, 2, 3]


def test_four_statuses_are_the_last_word() -> None:
    """COMPLETED, FAILED, ABORTED and REJECTED end a command, NOT_FOUND does not."""
    assert {status.name for status in FINAL_STATUSES} == {
        "ABORTED",
        "COMPLETED",
        "REJECTED",
        "FAILED",
    }
    assert not is_final(TaskStatus.NOT_FOUND)


def test_the_ska_classes_are_used_where_they_are_installed(tmp_path: Path) -> None:
    """Identities must match those of other SKA software in the process."""
    lines = ["from enum import IntEnum"]
    for name, members in {
        **VALUES,
        "CommunicationStatus": "ZERO DISABLED NOT_ESTABLISHED ESTABLISHED",
    }.items():
        lines.append(f"class {name}(IntEnum):")
        lines += [f"    {member} = {value}" for value, member in enumerate(members.split())]
    (tmp_path / "ska_control_model.py").write_text("\n".join(lines))
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import ska_control_model, milonga.control_model
        assert milonga.control_model.ResultCode is ska_control_model.ResultCode
        assert milonga.control_model.ObsState is ska_control_model.ObsState
        """
    )

    subprocess.run([sys.executable, "-c", script], check=True)
