"""The one thread that calls hooks."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from milonga.errors import WebhookRefused
from milonga.webhooks._delivery import DeliverySettings, HookFailed, HookGone
from milonga.webhooks._failing import FailingHooks
from milonga.webhooks._outbox import Message, Outbox
from milonga.webhooks._targets import LOOPBACK_ONLY, TargetPolicy

if TYPE_CHECKING:
    from milonga.webhooks._request import HookClient

__all__ = ["DelivererStatistics", "WebhookDeliverer"]

_logger = logging.getLogger(__name__)

_BREAK_OFF = 5.0
"""Seconds, at most, until the thread has ended after its requests were broken off."""


@dataclass(frozen=True, slots=True)
class DelivererStatistics:
    """Counters of a deliverer.

    Parameters
    ----------
    delivered, failed : int
        Messages that arrived, and rounds of tries after which one had not.
    given_up, refused : int
        Messages that were too old or whose hook is gone, and such whose address is not allowed.
    outbox_errors : int
        How often the outbox could not be used.
    """

    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    refused: int = 0
    outbox_errors: int = 0


class WebhookDeliverer:
    """Delivers the messages of an outbox, each at least once and in order for each task.

    A message leaves the outbox after the receiver's success: when this process or the receiver
    dies in between it is sent again, so receivers skip a ``sequence`` that they have seen.

    Parameters
    ----------
    outbox : Outbox
        The messages.
    secret : bytes or callable, optional
        Signs the messages; a callable gives the secret for a hook, or None.
    targets : TargetPolicy, optional
        Which addresses may be called. They are checked when a message leaves as well: the list
        may have become shorter since somebody subscribed.
    settings : DeliverySettings, optional
        How hard to try.
    clock : callable, optional
        Time of day, aware and in UTC; it must agree with the outbox.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        secret: bytes | Callable[[str], bytes | None] | None = None,
        targets: TargetPolicy = LOOPBACK_ONLY,
        settings: DeliverySettings | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox = outbox
        self._secret = secret
        self._targets = targets
        self._settings = settings or DeliverySettings()
        self._clock = clock
        self._counts = DelivererStatistics()
        self._failing = FailingHooks(self._settings)
        self._closing = False
        self._patience = 0.0
        self._outbox_fails = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._client: HookClient | None = None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="milonga-webhooks", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self) -> DelivererStatistics:
        """Return the counters."""
        return self._counts

    def wake(self, *_: object) -> None:
        """Say that there is something in the outbox; from any thread, returns at once."""
        with self._lock:
            loop, woken = self._loop, self._woken
            if loop is not None and woken is not None:
                loop.call_soon_threadsafe(woken.set)

    def close(self, timeout: float = 5.0) -> bool:
        """End the thread after the requests that are on their way; return whether it has ended.

        Parameters
        ----------
        timeout : float, optional
            Seconds that they have. What is left is broken off, and stays in the outbox for the
            next start.
        """
        self._patience, self._closing = timeout, True
        self.wake()
        self._thread.join(timeout + _BREAK_OFF)
        return not self._thread.is_alive()

    # The thread

    async def _run(self) -> None:
        woken = asyncio.Event()
        with self._lock:
            self._loop, self._woken = asyncio.get_running_loop(), woken
        try:
            await self._serve(woken)
        finally:
            with self._lock:
                self._loop = self._woken = None
            if self._client is not None:
                await self._client.close()

    def _hooks(self) -> "HookClient":
        """Return what calls hooks."""
        if self._client is None:
            # Many servers never call a hook, and the libraries that do so are large.
            from milonga.webhooks._request import HookClient  # noqa: PLC0415

            self._client = HookClient(self._settings)
        return self._client

    async def _serve(self, woken: asyncio.Event) -> None:
        under_way: set[asyncio.Task[None]] = set()
        while not self._closing:
            woken.clear()
            room = self._settings.at_once - len(under_way)
            for message in self._take(room):
                task = asyncio.create_task(self._deliver(message))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                # What comes next for this hook may be due now.
                task.add_done_callback(lambda _: woken.set())
            await self._sleep(woken, len(under_way))
        if under_way:
            await asyncio.wait(under_way, timeout=self._patience)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _take(self, limit: int) -> list[Message]:
        """Take messages: one to each hook that has failed and may be tried, then to the others."""
        taken: list[Message] = []
        try:
            self._take_probes(taken, limit)
            if len(taken) < limit:
                known = self._failing.all()
                taken += self._outbox.take(limit - len(taken), without=known)
        except Exception:
            self._outbox_fails = True
            self._count(outbox_errors=1)
            _logger.exception("the outbox of webhooks cannot be read")
        else:
            self._outbox_fails = False
        return taken

    def _take_probes(self, taken: list[Message], limit: int) -> None:
        while len(taken) < limit and (ready := self._failing.ready(self._clock())):
            found = self._outbox.take(1, only=ready)
            if not found:
                self._failing.forget_idle(self._clock())
                return
            self._failing.probe(found[0].webhook_href)
            taken += found

    async def _sleep(self, woken: asyncio.Event, under_way: int) -> None:
        seconds = self._settings.look_every
        if under_way < self._settings.at_once and not self._outbox_fails:
            seconds = min(seconds, self._until_next())
        try:
            await asyncio.wait_for(woken.wait(), seconds)
        except TimeoutError:
            return

    def _until_next(self) -> float:
        now = self._clock()
        try:
            resting = set(self._failing.all()) - self._failing.ready(now)
            dues = [self._outbox.next_due(without=resting), self._failing.next_end(now)]
        except Exception:
            self._count(outbox_errors=1)
            _logger.exception("the outbox of webhooks cannot be read")
            return self._settings.look_every
        waits = [(due - now).total_seconds() for due in dues if due is not None]
        return max(0.0, min(waits, default=self._settings.look_every))

    async def _deliver(self, message: Message) -> None:
        try:
            await self._try(message)
        except Exception:
            # The lease runs out, and the message is sent again: at least once.
            self._count(outbox_errors=1)
            _logger.exception("message %d to a webhook: its end cannot be noted", message.id)
        finally:
            self._failing.probed(message.webhook_href)

    async def _try(self, message: Message) -> None:
        began = self._clock()
        try:
            self._targets.check(message.webhook_href)
            secret = self._secret_for(message.webhook_href)
            await self._hooks().send(message, secret=secret, now=self._clock)
        except WebhookRefused as error:
            self._count(refused=1)
            if message.is_own:
                self._give_up(message, str(error))
            else:  # whoever it belongs to may call that address
                self._put_off(message, str(error))
        except HookGone as error:
            self._failing.answered(message.webhook_href)
            self._give_up(message, str(error))
        except HookFailed as error:
            self._failing.failed(message.webhook_href, began, self._clock())
            self._put_off(message, str(error))
        else:
            self._failing.answered(message.webhook_href)
            self._outbox.delivered([message.id])
            self._count(delivered=1)

    def _secret_for(self, href: str) -> bytes | None:
        return self._secret(href) if callable(self._secret) else self._secret

    def _put_off(self, message: Message, error: str) -> None:
        now = self._clock()
        self._count(failed=1)
        oldest = now - timedelta(seconds=self._settings.give_up_after)
        wait = timedelta(seconds=self._settings.wait_after(message.attempts))
        self._outbox.failed(message.id, error, now + wait)
        # All of the hook's, as those that wait behind this one are not tried while it fails.
        if expired := self._outbox.expire(message.webhook_href, oldest):
            self._count(given_up=expired)
            _logger.warning(
                "webhook %s: %d message(s) given up, too old; last: %s",
                *(message.webhook_href, expired, error),
            )

    def _give_up(self, message: Message, why: str) -> None:
        _logger.warning(
            "webhook %s: message %d about %s given up: %s",
            *(message.webhook_href, message.id, message.uid, why),
        )
        self._outbox.given_up(message.id)
        self._count(given_up=1)

    def _count(self, **more: int) -> None:
        """Add to the counters; only in the deliverer's thread."""
        counts = self._counts
        self._counts = replace(
            counts, **{name: getattr(counts, name) + number for name, number in more.items()}
        )
