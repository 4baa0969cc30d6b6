"""Which children get no commands, kept in the Tango database so that a restart does not forget."""

import threading
from collections.abc import Collection

import tango

from milonga.errors import ArgumentError

__all__ = ["OutOfService"]

PROPERTY = "ChildrenOutOfService"


class OutOfService:
    """The children that are out of service, by name. Safe across threads.

    Parameters
    ----------
    device : str
        The device whose property keeps the names. Without a database they last until its restart.
    known : collection of str
        The names of all children.
    """

    def __init__(self, device: str, known: Collection[str]) -> None:
        self._device = device
        self._known = frozenset(known)
        self._lock = threading.Lock()
        self._names = frozenset(self._kept()) & self._known

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._names))

    def put(self, name: str, *, out: bool) -> None:
        """Put a child out of service, or back.

        Raises
        ------
        ArgumentError
            If there is no such child.
        """
        if name not in self._known:
            raise ArgumentError(
                f"child: found {name!r}; expected one of {', '.join(sorted(self._known)) or 'none'}"
            )
        with self._lock:
            self._names = self._names | {name} if out else self._names - {name}
            names = sorted(self._names)
        database = _database()
        if database is not None:
            database.put_device_property(self._device, {PROPERTY: names})

    def _kept(self) -> list[str]:
        database = _database()
        if database is None:
            return []
        return list(database.get_device_property(self._device, PROPERTY)[PROPERTY])


def _database() -> tango.Database | None:
    """Return the server's own Tango database; None if it runs without one."""
    return tango.Util.instance().get_database()
