"""JSON values that know when somebody changes them, however deep (QM-07).

SQLAlchemy sees that an attribute is set, not that a list inside its value grows. These containers
call back at each change, and wrap what is put into them.
"""

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

from sqlalchemy import event
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import flag_modified

__all__ = ["plain", "track_changes"]

_Notify = Callable[[], None]


def _wrap(value: Any, notify: _Notify) -> Any:
    if isinstance(value, dict):
        return _TrackedDict(value, notify)
    if isinstance(value, list | tuple):
        return _TrackedList(value, notify)
    return value


def plain(value: Any) -> Any:
    """Return a copy of a JSON value made of ordinary containers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


class _TrackedDict(dict[str, Any]):
    """A dict that tells of changes."""

    def __init__(self, items: dict[str, Any], notify: _Notify) -> None:
        self._notify = notify
        super().__init__({key: _wrap(item, notify) for key, item in items.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (plain(self),)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _wrap(value, self._notify))
        self._notify()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._notify()

    def __ior__(self, other: Any) -> "_TrackedDict":  # type: ignore[override,misc]
        self.update(other)
        return self

    def clear(self) -> None:
        super().clear()
        self._notify()

    def pop(self, *arguments: Any) -> Any:
        value = super().pop(*arguments)
        self._notify()
        return value

    def popitem(self) -> tuple[str, Any]:
        item = super().popitem()
        self._notify()
        return item

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *arguments: Any, **more: Any) -> None:
        for key, value in dict(*arguments, **more).items():
            super().__setitem__(key, _wrap(value, self._notify))
        self._notify()


class _TrackedList(list[Any]):
    """A list that tells of changes."""

    def __init__(self, items: Iterable[Any], notify: _Notify) -> None:
        self._notify = notify
        super().__init__(_wrap(item, notify) for item in items)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (plain(self),)

    def __setitem__(self, index: Any, value: Any) -> None:
        many = isinstance(index, slice)
        wrapped = [_wrap(item, self._notify) for item in value] if many else value
        super().__setitem__(index, wrapped if many else _wrap(value, self._notify))
        self._notify()

    def __delitem__(self, index: Any) -> None:
        super().__delitem__(index)
        self._notify()

    def __iadd__(self, items: Iterable[Any]) -> "_TrackedList":  # type: ignore[misc]
        self.extend(items)
        return self

    def __imul__(self, times: SupportsIndex) -> "_TrackedList":
        self[:] = list(self) * times
        return self

    def append(self, item: Any) -> None:
        super().append(_wrap(item, self._notify))
        self._notify()

    def extend(self, items: Iterable[Any]) -> None:
        super().extend([_wrap(item, self._notify) for item in items])
        self._notify()

    def insert(self, index: SupportsIndex, item: Any) -> None:
        super().insert(index, _wrap(item, self._notify))
        self._notify()

    def clear(self) -> None:
        super().clear()
        self._notify()

    def pop(self, index: SupportsIndex = -1) -> Any:
        item = super().pop(index)
        self._notify()
        return item

    def remove(self, item: Any) -> None:
        super().remove(item)
        self._notify()

    def reverse(self) -> None:
        super().reverse()
        self._notify()

    def sort(self, **options: Any) -> None:
        super().sort(**options)
        self._notify()


def track_changes(attribute: InstrumentedAttribute[Any]) -> None:
    """Make changes inside the value of a JSON attribute count as changes of the row."""
    key = attribute.key

    def tracked(target: object, value: Any) -> Any:
        return _wrap(value, lambda: flag_modified(target, key))

    def on_set(target: object, value: Any, *_: object) -> Any:
        return tracked(target, value)

    def on_load(target: Any, *_: object) -> None:
        if key in target.__dict__:
            target.__dict__[key] = tracked(target, target.__dict__[key])

    event.listen(attribute, "set", on_set, retval=True, propagate=True)
    for name in ("load", "refresh", "refresh_flush"):
        event.listen(attribute.class_, name, on_load, propagate=True)
