"""A debugger gets in only where it is let in."""

import importlib.util

import pytest

from milonga.devices._debugging import debug_port
from milonga.errors import StateModelError


def test_debugging_is_off_unless_it_was_allowed() -> None:
    """Weakness j.18 of the original, which is not copied."""
    with pytest.raises(StateModelError, match="set the property DebugEnabled to true"):
        debug_port(allowed=False)


@pytest.mark.skipif(importlib.util.find_spec("debugpy") is not None, reason="debugpy is here")
def test_a_server_without_debugpy_says_so() -> None:
    """It is no dependency."""
    with pytest.raises(StateModelError, match="debugpy is not installed"):
        debug_port(allowed=True)
