"""One message as an HTTP request, tried a few times."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import stamina

from milonga.webhooks._delivery import DeliverySettings, HookFailed, HookGone
from milonga.webhooks._outbox import Message
from milonga.webhooks._signature import SIGNATURE_HEADER, sign

__all__ = ["HookClient", "body_of"]

_GONE = 410


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


class HookClient:
    """Calls hooks, and goes where it is told and nowhere else: no redirects, no proxies.

    Parameters
    ----------
    settings : DeliverySettings
        How hard to try.
    """

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            timeout=settings.timeout,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=settings.at_once),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(
        self, message: Message, *, secret: bytes | None, now: Callable[[], datetime]
    ) -> None:
        """Call a hook; return when it has answered with success.

        Raises
        ------
        HookFailed
            If it has not, in as many tries as the settings say; an answer of 5xx counts as none
            (C-15).
        HookGone
            If the receiver wants no more messages.
        """
        try:
            await self._send(message, secret, now)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise HookFailed(f"{type(error).__name__}: {error}") from error

    async def _send(
        self, message: Message, secret: bytes | None, now: Callable[[], datetime]
    ) -> None:
        settings = self._settings
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
                await self._post(url, body, headers)

    async def _post(self, url: httpx.URL, body: bytes, headers: dict[str, str]) -> None:
        # The client's timeout begins anew with each byte, so a receiver could drip for ever.
        seconds = self._settings.whole_try
        try:
            async with asyncio.timeout(seconds):
                await _post(self._client, url, body, headers)
        except TimeoutError as error:
            raise _Answer(f"{url.host} gave no whole answer in {seconds:.4g} s") from error


async def _post(
    client: httpx.AsyncClient, url: httpx.URL, body: bytes, headers: dict[str, str]
) -> None:
    # Streaming, as nobody wants the answer's body, which may have no end.
    async with client.stream("POST", url, content=body, headers=headers) as response:
        if response.status_code == _GONE:
            raise HookGone(f"{url.host} answered 410")
        if not response.is_success:
            raise _Answer(f"{url.host} answered {response.status_code}")
