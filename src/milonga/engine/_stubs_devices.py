"""Plan stubs for devices: properties, descriptions and readings that are kept."""

# bluesky is annotated in parts only.
# mypy: untyped-calls-exclude="bluesky"

import uuid
from collections.abc import Generator, Hashable, Mapping, Sequence
from typing import Any

from bluesky import plan_stubs as bps
from bluesky.protocols import Triggerable
from bluesky.run_engine import WaitForTimeoutError
from bluesky.utils import Msg

__all__ = [
    "clear_cache",
    "describe",
    "describe_collect",
    "read_and_stash",
    "set_property",
    "stash",
]


def _group(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def set_property(
    obj: Any, value: Any, /, propr: str, timeout: float | None = None
) -> Generator[Msg, Any, Any]:
    """Set a property of a device and wait until that is done.

    Parameters
    ----------
    obj : Movable
        Its `set` gets the value, and the property as `propr`.
    value : object
        The value.
    propr : str
        The property.
    timeout : float, optional
        Seconds to wait at most.

    Returns
    -------
    Status
        The device's.

    Raises
    ------
    WaitForTimeoutError
        If it takes longer.
    """
    group = _group("set-property")
    status = yield Msg("set", obj, value, propr=propr, group=group)
    try:
        yield Msg("wait", None, group=group, timeout=timeout)
    except WaitForTimeoutError:
        yield Msg("forget_group", None, group)
        raise
    return status


def stash(
    obj: Any, reading: Mapping[str, Any], *, group: Hashable | None = None, wait: bool = False
) -> Generator[Msg, Any, Any]:
    """Have a device keep readings.

    A message that is repeated after a pause does not keep them twice.

    Parameters
    ----------
    obj : HasCache
        The device.
    reading : mapping
        Readings by their keys.
    group : hashable, optional
        Group to wait for.
    wait : bool, optional
        Whether to wait until it is done.

    Returns
    -------
    Status
        The device's.
    """
    group = group or _group("stash")
    status = yield Msg("stash", obj, dict(reading), group=group)
    if wait:
        yield from bps.wait(group=group)
    return status


def clear_cache(
    obj: Any, *, group: Hashable | None = None, wait: bool = False
) -> Generator[Msg, Any, Any]:
    """Have a device drop the readings that it keeps; parameters as for `stash`."""
    group = group or _group("clear-cache")
    status = yield Msg("clear_cache", obj, group=group)
    if wait:
        yield from bps.wait(group=group)
    return status


def read_and_stash(
    objs: Sequence[Any],
    cache_objs: Sequence[Any],
    *,
    stream: str = "primary",
    group: Hashable | None = None,
    wait: bool = False,
) -> Generator[Msg, Any, dict[str, Any]]:
    """Trigger and read devices into one event, and have each reading kept by a device.

    Parameters
    ----------
    objs : sequence
        What to read.
    cache_objs : sequence
        Who keeps the reading, one for each of `objs`.
    stream : str, optional
        Stream of the event.
    group : hashable, optional
        One group for all; made up if not given.
    wait : bool, optional
        Whether to wait, once, until all is kept. Do, or wait for the `group` given.

    Returns
    -------
    dict
        All readings; of equal keys the last one.

    Raises
    ------
    ValueError
        If the two sequences differ in length; no message is sent then.
    """
    objs, cache_objs = list(objs), list(cache_objs)
    if len(objs) != len(cache_objs):
        raise ValueError(
            f"found {len(objs)} devices to read and {len(cache_objs)} to keep the readings, "
            "expected as many of the one as of the other"
        )
    trigger_group = _group("trigger")
    triggerable = [obj for obj in objs if isinstance(obj, Triggerable)]
    for obj in triggerable:
        yield from bps.trigger(obj, group=trigger_group)
    if triggerable:
        yield from bps.wait(group=trigger_group)
    stash_group = group or _group("stash")
    readings: dict[str, Any] = {}
    yield from bps.create(stream)
    for obj, cache in zip(objs, cache_objs, strict=True):
        reading = yield from bps.read(obj)
        readings.update(reading)
        yield from stash(cache, reading, group=stash_group)
    yield from bps.save()
    if wait:
        yield from bps.wait(group=stash_group)
    elif group is None:
        # Nobody can wait for a group whose name is made up here; a failure is noticed anyway.
        yield Msg("forget_group", None, stash_group)
    return readings


def describe(obj: Any, *, in_thread: bool = False) -> Generator[Msg, Any, dict[str, Any]]:
    """Return what a device says about its readings.

    Parameters
    ----------
    obj : Readable
        The device; its `describe` may be async.
    in_thread : bool, optional
        Call it in a thread, if it blocks.
    """
    return (yield Msg("describe", obj, in_thread=in_thread))  # type: ignore[no-any-return]


def describe_collect(obj: Any, *, in_thread: bool = False) -> Generator[Msg, Any, dict[str, Any]]:
    """Return what a flyer says about what it collects, flat or by stream; as `describe`."""
    return (yield Msg("describe_collect", obj, in_thread=in_thread))  # type: ignore[no-any-return]
