"""Who called a command, as far as Tango tells: the client's address and process."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Caller", "caller_of"]


class ClientAddress(Protocol):
    """Tango's form of it."""

    client_ip: str
    client_pid: int


@dataclass(frozen=True, slots=True)
class Caller:
    """A client process. Tango does not tell the user."""

    host: str
    pid: int


def caller_of(address: ClientAddress | None) -> Caller | None:
    """Read Tango's form of a client's address; None for a call from within.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> caller_of(SimpleNamespace(client_ip="giop:tcp:127.0.0.1:41374", client_pid=7))
    Caller(host='127.0.0.1', pid=7)
    """
    if address is None:
        return None
    protocol, _, place = address.client_ip.rpartition("tcp:")
    host = place.rpartition(":")[0] if protocol else "localhost"  # a local socket has no address
    return Caller(host.strip("[]") or "localhost", int(address.client_pid))
