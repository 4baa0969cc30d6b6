"""Which hooks have failed of late, and when each may be called again.

A hook that does not answer would hold every place with its messages, as each of them has to time
out by itself. So a hook that has failed rests, and then is called with one message at a time until
it has answered.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from milonga.webhooks._delivery import DeliverySettings

__all__ = ["MAX_HOOKS", "FailingHooks"]

MAX_HOOKS = 1000
"""Hooks that are remembered; beyond it the one whose failures began first is forgotten."""


@dataclass(slots=True)
class _Failing:
    failures: int
    failed_at: datetime
    rests_until: datetime
    is_probed: bool = False


class FailingHooks:
    """The hooks whose last call has failed; for one thread.

    Parameters
    ----------
    settings : DeliverySettings
        How long a hook rests, and how many requests there may be: half of them, at most, are for
        hooks that have failed.
    """

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        self._hooks: dict[str, _Failing] = {}
        self._places = max(1, settings.at_once // 2)

    def failed(self, href: str, began: datetime, now: datetime) -> None:
        """Note that a call which `began` at that time has failed.

        Of calls that were under way at the same time only the first counts.
        """
        hook = self._hooks.get(href)
        if hook is None:
            if len(self._hooks) >= MAX_HOOKS:
                del self._hooks[next(iter(self._hooks))]
            hook = self._hooks[href] = _Failing(0, began, now)
        elif began < hook.failed_at:
            return
        wait = self._settings.wait_after(hook.failures)
        hook.failures += 1
        hook.failed_at, hook.rests_until = now, now + timedelta(seconds=wait)

    def answered(self, href: str) -> None:
        """Note that a hook has answered."""
        self._hooks.pop(href, None)

    def probe(self, href: str) -> None:
        """Note that a hook is called again."""
        self._hooks[href].is_probed = True

    def probed(self, href: str) -> None:
        """Note that a call has ended."""
        if hook := self._hooks.get(href):
            hook.is_probed = False

    def forget_idle(self, now: datetime) -> None:
        """Forget the hooks that nothing can wait for, as it would have been due long ago."""
        long_ago = now - timedelta(seconds=self._settings.retry_longest)
        for href in [*self.ready(now)]:
            if self._hooks[href].rests_until < long_ago:
                del self._hooks[href]

    def all(self) -> Collection[str]:
        """Return the hooks that have failed."""
        return self._hooks.keys()

    def ready(self, now: datetime) -> set[str]:
        """Return those that may be called now, each with one message."""
        if self._free_places() <= 0:
            return set()
        return {
            href
            for href, hook in self._hooks.items()
            if hook.rests_until <= now and not hook.is_probed
        }

    def next_end(self, now: datetime) -> datetime | None:
        """Return when the next rest ends."""
        ends = (hook.rests_until for hook in self._hooks.values())
        return min((end for end in ends if end > now), default=None)

    def _free_places(self) -> int:
        return self._places - sum(hook.is_probed for hook in self._hooks.values())
