"""One message as an HTTP request, tried a few times."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import stamina

from milonga.webhooks._outbox import Message
from milonga.webhooks._signature import SIGNATURE_HEADER, sign

__all__ = ["DeliverySettings", "HookGone", "body_of", "new_client", "send"]

_GONE = 410


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """How hard delivery tries.

    Parameters
    ----------
    timeout : float
        Seconds for each of connecting, sending and the answer.
    tries : int
        Tries in a row, for what a moment can heal; then the message waits in the outbox.
    retry_first, retry_longest : float
        Seconds of that wait: at first, doubled each time, and at most.
    give_up_after : float
        Seconds after the change when nobody needs to hear of it any more.
    at_once : int
        Requests at the same time, to different hooks or about different tasks.
    look_every : float
        Seconds after which the outbox is looked at if nobody says that something is in it.
    """

    timeout: float = 1.0
    tries: int = 3
    retry_first: float = 1.0
    retry_longest: float = 300.0
    give_up_after: float = 24 * 3600.0
    at_once: int = 16
    look_every: float = 5.0

    def wait_after(self, attempts: int) -> float:
        """Return the seconds to wait after so many rounds of tries."""
        return float(min(self.retry_first * 2 ** min(attempts, 32), self.retry_longest))


class HookGone(Exception):
    """The receiver says that the hook is no more."""


class _Answer(httpx.HTTPError):
    """An answer that is no success."""


def body_of(message: Message) -> bytes:
    """Return the body of a message (QW-05)."""
    body: dict[str, Any] = {
        "event": message.event,
        "uid": message.uid,
        "sequence": message.id,
        "status": message.status,
        "source": message.task_href,
        "time": message.created_at.isoformat(),
    }
    return json.dumps(body, separators=(",", ":")).encode()


def new_client(settings: DeliverySettings) -> httpx.AsyncClient:
    """Make a client that goes where it is told and nowhere else: no redirects, no proxies."""
    return httpx.AsyncClient(
        timeout=settings.timeout,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=settings.at_once),
    )


async def send(
    client: httpx.AsyncClient,
    message: Message,
    *,
    secret: bytes | None,
    settings: DeliverySettings,
    now: Callable[[], datetime],
) -> None:
    """Call a hook; return when it has answered with success.

    Raises
    ------
    httpx.HTTPError
        If it has not, in `settings.tries` tries; an answer of 5xx counts as none (C-15).
    HookGone
        If the receiver wants no more messages.
    """
    url = httpx.URL(message.webhook_href).copy_merge_params(
        {"source": message.task_href, "event": message.event}
    )
    body = body_of(message)
    async for attempt in stamina.retry_context(
        on=httpx.HTTPError,
        attempts=settings.tries,
        timeout=None,
        wait_initial=min(0.1, settings.timeout / 10),
        wait_max=settings.timeout,
        wait_jitter=min(0.1, settings.timeout / 10),
    ):
        with attempt:
            headers = {"Content-Type": "application/json"}
            if secret is not None:
                headers[SIGNATURE_HEADER] = sign(secret, body, now().timestamp())
            await _post(client, url, body, headers)


async def _post(
    client: httpx.AsyncClient, url: httpx.URL, body: bytes, headers: dict[str, str]
) -> None:
    # Streaming, as nobody wants the answer's body, which may have no end.
    async with client.stream("POST", url, content=body, headers=headers) as response:
        if response.status_code == _GONE:
            raise HookGone(f"{url.host} answered 410")
        if not response.is_success:
            raise _Answer(f"{url.host} answered {response.status_code}")
