"""The time of day, as records keep it."""

from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["Now", "in_utc", "utc_now"]

Now = Callable[[], datetime]
"""Tells the time of day, aware and in UTC. Replace it in tests."""


def utc_now() -> datetime:
    """Return the time of day, aware and in UTC."""
    return datetime.now(UTC)


def in_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC.

    Raises
    ------
    ValueError
        If `moment` does not say in which time zone it is.
    """
    if moment.tzinfo is None:
        raise ValueError(f"found {moment!r} with no time zone, expected an aware time")
    return moment.astimezone(UTC)
