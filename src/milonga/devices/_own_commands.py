"""Commands that one device has and its class has not, because its properties name them."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from tango.server import command

from milonga.lrc import TAKEN_TIMED

__all__ = ["can_be_own", "own_command"]

_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")


def own_command(name: str, dtype_out: str, submit: Callable[[], object]) -> Any:
    """Return a Tango command that takes nothing; to be given to ``Device.add_command``."""

    def call() -> object:
        return submit()

    call.__name__ = name
    call.__doc__ = f"Do what the properties of this device say of {name}."
    return command(call, dtype_out=dtype_out, doc_out=TAKEN_TIMED)


def can_be_own(kind: type, names: Iterable[str]) -> list[str]:
    """Return those of `names` that a device of a class may have as commands of its own."""
    return [name for name in names if _NAME.fullmatch(name) and not hasattr(kind, name)]
