"""What the annotation of a plan's parameter asks for."""

import datetime
import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

__all__ = ["Wanted", "is_native", "is_plain", "wanted_by", "without_metadata", "without_none"]

_NATIVE = (
    int,
    float,
    str,
    bool,
    bytes,
    range,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    PurePath,
    Enum,
)


_ANYTHING = (None, object, Any)  # Any is a class since Python 3.11


@dataclass(frozen=True)
class Wanted:
    """What a client gives for a parameter, if it is chosen from a list.

    Parameters
    ----------
    choices : tuple of str
        What there is to choose from.
    many : bool
        Whether several are chosen.
    as_set : bool
        Whether the plan gets a set of them.
    device : type, optional
        The type of device, if it is one.
    """

    choices: tuple[str, ...]
    many: bool = False
    as_set: bool = False
    device: Any = None


def without_metadata(annotation: Any) -> Any:
    """Return what `Annotated` annotates."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def without_none(annotation: Any) -> Any:
    """Return ``X`` for ``Optional[X]``, and anything else as it is."""
    annotation = without_metadata(annotation)
    members = _members(annotation)
    others = tuple(member for member in members if member is not types.NoneType)
    if len(others) == len(members):
        return annotation
    return others[0] if len(others) == 1 else Union[others]  # noqa: UP007 - made at run time


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(without_metadata(member) for member in get_args(annotation))
    return (annotation,)


def is_native(annotation: Any) -> bool:
    """Whether a value has a text form that everybody knows, or is left out."""
    return all(
        isinstance(member, type) and (member is types.NoneType or issubclass(member, _NATIVE))
        for member in _members(without_metadata(annotation))
    )


def is_plain(annotation: Any) -> bool:
    """Whether a value is native, or a collection of such, to any depth.

    Beyond behaviours SP-06, as positions are given as a list in JSON, which no form could show.
    """
    if is_native(annotation):
        return True
    annotation = without_metadata(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    is_one_of_types = len(_members(annotation)) > 1
    is_collection = isinstance(origin, type) and issubclass(origin, (Sequence, Set, Mapping))
    if not (is_one_of_types or is_collection):
        return False
    return all(each is ... or is_plain(each) for each in arguments)


def wanted_by(annotation: Any, devices: Mapping[str, object]) -> Wanted | None:
    """Return the choice that an annotation asks for, or None.

    The order is that of behaviours SP-04: a Literal, a set of devices, a sequence of them, one.
    """
    annotation = without_none(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return Wanted(tuple(str(value) for value in arguments))
    element = without_metadata(arguments[0]) if arguments else None
    if isinstance(origin, type) and element is not None:
        for kind, as_set in ((Set, True), (Sequence, False)):
            if issubclass(origin, kind) and _is_device(element, devices):
                return Wanted(_names(element, devices), many=True, as_set=as_set, device=element)
    if _is_device(annotation, devices):
        return Wanted(_names(annotation, devices), device=annotation)
    return None


def _is_device(annotation: Any, devices: Mapping[str, object]) -> bool:
    """Whether a type is that of devices: a protocol, or the type of one that is registered."""
    members = _members(annotation)
    kinds = [_class_of(member) for member in members]
    if is_native(annotation) or any(kind in _ANYTHING for kind in kinds):
        return False
    return all(_is_protocol(kind) for kind in kinds) or bool(_names(annotation, devices))


def _is_protocol(kind: Any) -> bool:
    runtime = getattr(kind, "_is_runtime_protocol", False)
    # Containers such as Sequence are no devices although strings could be taken for them.
    return bool(runtime) and not kind.__module__.startswith(("collections", "typing", "abc"))


def _class_of(annotation: Any) -> Any:
    annotation = get_origin(annotation) or annotation
    return annotation if isinstance(annotation, type) else None


def _names(annotation: Any, devices: Mapping[str, object]) -> tuple[str, ...]:
    kinds = tuple(_class_of(member) for member in _members(annotation))
    return tuple(name for name, device in devices.items() if isinstance(device, kinds))
