"""Tango's errors are told in words for people."""

import pytest
import tango

from milonga.lrc import describe


def failed(*entries: tuple[str, str]) -> tango.DevFailed:
    """Return an error as Tango raises it, the cause first."""
    errors = []
    for reason, text in entries:
        error = tango.DevError()
        error.reason, error.desc, error.origin = reason, text, "somewhere"
        errors.append(error)
    return tango.DevFailed(*errors)


def test_a_database_that_does_not_answer_is_named() -> None:
    """The real error, of a port where nobody listens."""
    with pytest.raises(tango.DevFailed) as raised:
        tango.DeviceProxy("tango://127.0.0.1:1/lab/a/1")

    assert describe(raised.value) == "no Tango database answers at 127.0.0.1:1"


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (
            (
                ("API_CorbaException", "TRANSIENT CORBA system exception: TRANSIENT_ConnectFailed"),
                ("API_CantConnectToDevice", "Failed to connect to device lab/a/1"),
            ),
            "nothing answers where its server was",
        ),
        (
            (
                ("API_CorbaException", "TIMEOUT CORBA system exception"),
                ("API_DeviceTimedOut", "Timeout (3000 mS) exceeded on device lab/a/1"),
                ("API_CommandFailed", "Failed to execute command_inout on device lab/a/1"),
            ),
            "it did not answer within 3 s; whether the command runs is not known",
        ),
        (
            (
                ("API_DeviceTimedOut", "Timeout (500 mS) exceeded on device lab/a/1"),
                ("API_AttributeFailed", "Failed to read_attribute on device lab/a/1"),
            ),
            "it did not answer within 0.5 s",
        ),
        (
            (("PyDs_PythonError", "StateModelError: Scan not permitted in EMPTY"),),
            "Scan not permitted in EMPTY",
        ),
        ((("PyDs_PythonError", "OSError: no beam"),), "OSError: no beam"),
        ((("API_CommandNotFound", "Command  Nope\nnot found"),), "Command Nope not found"),
    ],
)
def test_a_refusal_needs_no_names_of_corba_or_python(
    entries: tuple[tuple[str, str], ...], text: str
) -> None:
    """Those of a bug are for who mends it."""
    assert describe(failed(*entries)) == text
