"""What is read of a device's tables of commands, and what is said where there are none."""

from typing import Any

import pytest

pytest.importorskip("tango")

import tango

from milonga.cli import _looking, _watch
from milonga.cli._looking import finished_result, read_tables
from milonga.errors import ArgumentError, MilongaError, ProtocolError, Unreachable

TRL = "tango://db:1/lab/a/1"
GOOD = ('{"uid": "1_2_On", "result": [0, "done"]}',)


class Attribute:
    """An attribute as it was read."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = None if isinstance(value, tango.DevFailed) else value
        self.error = value

    @property
    def has_failed(self) -> bool:
        """Whether there is an error in place of a value."""
        return isinstance(self.error, tango.DevFailed)

    def get_err_stack(self) -> tuple[tango.DevError, ...]:
        """Return the error."""
        return tuple(self.error.args)


class Device:
    """A device with a table of ended commands, whatever that is."""

    finished: Any = GOOD

    def __init__(self, _trl: str = TRL) -> None:
        pass

    def dev_name(self) -> str:
        """Return its name."""
        return "lab/a/1"

    def read_attribute(self, name: str) -> Attribute:
        """Read one."""
        return Attribute(name, self.finished if name == "lrcFinished" else None)

    def read_attributes(self, names: list[str]) -> list[Attribute]:
        """Read several, as pytango does: what fails is told in its place."""
        return [self.read_attribute(name) for name in names]


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    """Give the device that answers."""
    monkeypatch.setattr(_looking.tango, "DeviceProxy", Device)
    monkeypatch.setattr(Device, "finished", GOOD)
    return Device


def failed(reason: str) -> tango.DevFailed:
    """Make an error."""
    error = tango.DevError()
    error.reason, error.desc, error.origin = reason, "it is so", "here"
    return tango.DevFailed(error)


WRONG: list[tuple[Any, type[MilongaError], str]] = [
    (failed("API_AttrNotFound"), ArgumentError, "found no attributes lrcQueue, lrcExecuting, lrcF"),
    (failed("PyDs_PythonError"), Unreachable, "it is so"),
    (("no JSON",), ProtocolError, "lrcFinished: .*; expected texts of JSON"),
    (("[" * 100_000,), ProtocolError, "lrcFinished: .*; expected texts of JSON"),
    (3.5, ProtocolError, "lrcFinished: .*; expected texts of JSON"),
    (("7",), ProtocolError, "lrcFinished: expected JSON objects"),
]


@pytest.mark.parametrize(("value", "kind", "text"), WRONG)
def test_a_table_that_cannot_be_read_is_no_empty_table(
    value: Any, kind: type[MilongaError], text: str, device: type[Device]
) -> None:
    """The device and the reason are named."""
    device.finished = value

    with pytest.raises(kind, match=f"^lab/a/1: .*{text}"):
        read_tables(TRL)


@pytest.mark.parametrize("value", [None, ()])
def test_an_empty_table_is_one(value: Any, device: type[Device]) -> None:
    """Tango gives None for a list of nothing."""
    device.finished = value

    assert read_tables(TRL).finished == ()


def test_an_end_that_is_no_json_is_told_of_the_device(device: type[Device]) -> None:
    """Who follows a tree goes on looking, rather than to end with an internal error."""
    assert finished_result(Device(), "1_2_On")["result_code"] == "OK"  # type: ignore[arg-type]
    device.finished = ("no JSON",)

    with pytest.raises(ProtocolError, match="lab/a/1: lrcFinished"):
        finished_result(Device(), "1_2_On")  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "text"), [(value, text) for value, _, text in WRONG])
def test_watching_goes_on_while_a_table_cannot_be_read(
    value: Any,
    text: str,
    device: type[Device],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A device that starts has not all of its attributes yet."""
    looks: list[Any] = [value, value, GOOD]

    def wait(_seconds: float) -> None:
        if not looks:
            raise KeyboardInterrupt
        device.finished = looks.pop(0)

    monkeypatch.setattr(_watch.time, "sleep", wait)

    with pytest.raises(KeyboardInterrupt):
        _watch.watch(TRL, as_json=False, tango_host=None)

    _, told, again = capsys.readouterr().err.splitlines()
    assert text.rpartition(".*")[2] in told
    assert again == "lab/a/1 answers again"
