"""What a device is asked about its commands."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("tango")

from milonga.cli import _asking
from milonga.records import NewTask, RecordCommands, Recorder, RecordStore

UID = "17_22_Go"


@pytest.mark.parametrize("address", ["Lab/a/1", "lab/a/1", "LAB/A/1", "the-alias"])
def test_commands_are_listed_however_the_device_is_called(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an alias, or in capital and small letters: its records have its own name."""
    with RecordStore(tmp_path / "records.db") as store:
        with Recorder(store, "srv/1") as recorder:
            recorder.open(NewTask(uid=UID, task_name="Go", device="Lab/a/1", command="Go"))

        class Proxy:
            names: ClassVar[dict[str, str]] = {"the-alias": "lab/a/1"}

            def __init__(self, trl: str) -> None:
                self.name = trl.removeprefix("tango://h:1/")

            def dev_name(self) -> str:
                return self.names.get(self.name, self.name)

            def command_inout(self, command: str, argument: str) -> str:
                assert command == "QueryTasks"
                assert json.loads(argument)["limit"] == 20
                return RecordCommands(store, file_href=str).list_tasks(argument)

        monkeypatch.setattr(_asking.tango, "DeviceProxy", Proxy)

        assert [line["id"] for line in _asking.list_commands(f"tango://h:1/{address}")] == [UID]
