"""From a status to other things that are awaited, and back."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

from milonga.errors import (
    InvalidState,
    StatusTimeoutError,
    UnknownStatusFailure,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from milonga.engine._status import Status

__all__ = ["AnyStatus", "StatusBridges", "logger"]

logger = logging.getLogger("milonga.engine.status")


class AnyStatus(Protocol):
    """What bluesky takes for a status."""

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` at the end."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""

    @property
    def success(self) -> bool:
        """Whether it has ended well."""

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """Why it failed."""


class StatusBridges:
    """Combination, progress and conversion of statuses."""

    def _init_bridges(self) -> None:
        self._watchers: list[Callable[..., None]] = []
        self._progress: dict[str, Any] = {}

    # Progress

    def watch(self, callback: Callable[..., None]) -> None:
        """Call `callback` with the keywords of each `report_progress`, and with the last one now.

        Parameters
        ----------
        callback : callable
            Takes keywords such as `name`, `current`, `initial`, `target`, `unit`, `fraction`.
        """
        self._watchers.append(callback)
        if self._progress:
            callback(**self._progress)

    def report_progress(self, **progress: Any) -> None:
        """Tell those who watch how far the operation is; one that raises is logged."""
        self._progress = progress
        for watcher in tuple(self._watchers):
            try:
                watcher(**progress)
            except Exception:
                logger.exception("%r: watcher %r failed", self, watcher)

    # Combination

    def __and__(self, other: AnyStatus) -> "Status":
        """Return a status that is done when both are, and fails as soon as one does."""
        return _all_of((cast("Status", self), other))

    @classmethod
    def any_of(cls, statuses: Iterable[AnyStatus], *, timeout: float | None = None) -> "Status":
        """Return a status that ends as the first of `statuses` ends.

        Raises
        ------
        ValueError
            If there are none.
        """
        status = _new("any", timeout=timeout)
        found = list(statuses)
        if not found:
            raise ValueError("found no statuses, expected at least one")
        for each in found:
            each.add_callback(lambda ended: _follow(status, ended))
        return status

    # Conversion

    def as_future(self) -> "concurrent.futures.Future[None]":
        """Return a future that ends as the status does."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def pass_on(ended: AnyStatus) -> None:
            error = ended.exception(timeout=0.0)
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        cast("Status", self).add_callback(pass_on)
        return future

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.wrap_future(self.as_future()).__await__()

    @classmethod
    def from_future(
        cls,
        future: "concurrent.futures.Future[Any] | asyncio.Future[Any]",
        *,
        timeout: float | None = None,
        name: str | None = None,
    ) -> "Status":
        """Return a status that ends as a future does; a cancelled one is a failure."""
        status = _new(name or "future", timeout=timeout)

        def pass_on(ended: Any) -> None:
            if ended.cancelled():
                _report(status, concurrent.futures.CancelledError("the future was cancelled"))
            else:
                _report(status, ended.exception())

        future.add_done_callback(pass_on)
        return status

    @classmethod
    def from_async_status(
        cls, other: AnyStatus, *, timeout: float | None = None, name: str | None = None
    ) -> "Status":
        """Return a status that ends as another kind of status does, such as ophyd-async's."""
        status = _new(name or "status", timeout=timeout)
        other.add_callback(lambda ended: _follow(status, ended))
        return status


def _new(name: str, *, timeout: float | None = None) -> "Status":
    from milonga.engine._status import Status  # noqa: PLC0415 - they are each other's

    return Status(timeout=timeout, name=name)


def _all_of(statuses: tuple[AnyStatus, ...]) -> "Status":
    status = _new("all")
    ended_well: list[AnyStatus] = []

    def one_ended(ended: AnyStatus) -> None:
        if ended.success:
            ended_well.append(ended)
        if not ended.success or len(ended_well) == len(statuses):
            _follow(status, ended)

    for each in statuses:
        each.add_callback(one_ended)
    return status


def _follow(status: "Status", ended: AnyStatus) -> None:
    error = ended.exception(timeout=0.0)
    if error is None and not ended.success:
        error = UnknownStatusFailure(f"{ended!r} failed")
    _report(status, error)


def _report(status: "Status", error: BaseException | None) -> None:
    """Report an end, unless another one was first."""
    try:
        if error is None:
            status.set_finished()
        else:
            status.set_exception(_reportable(error))
    except InvalidState:
        logger.debug("%r has ended already", status)


def _reportable(error: BaseException) -> BaseException:
    """Return the error, or a plain timeout for one that only a status itself may raise."""
    if isinstance(error, (StatusTimeoutError, WaitTimeoutError)):
        plain = TimeoutError(str(error))
        plain.__cause__ = error
        return plain
    return error
