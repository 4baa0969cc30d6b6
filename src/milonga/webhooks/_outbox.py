"""What delivery needs from whoever keeps the messages."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

__all__ = ["Message", "Outbox"]


class Message(Protocol):
    """A message to a hook."""

    @property
    def id(self) -> int:
        """Its number, which grows from message to message and never comes back."""

    @property
    def webhook_href(self) -> str:
        """Where to call."""

    @property
    def task_href(self) -> str:
        """The address of the task."""

    @property
    def uid(self) -> str:
        """The unique name of the task."""

    @property
    def event(self) -> str:
        """What changed: status, steps or details."""

    @property
    def status(self) -> str:
        """The status of the task after the change."""

    @property
    def created_at(self) -> datetime:
        """When it changed."""

    @property
    def attempts(self) -> int:
        """How often the message was tried before."""

    @property
    def is_own(self) -> bool:
        """Whether it is for this deliverer, and not for another that seems to be gone."""


class Outbox(Protocol):
    """Messages that wait, on a disk; each method may take as long as a transaction."""

    def take(
        self, limit: int, *, only: Collection[str] | None = None, without: Collection[str] = ()
    ) -> Sequence[Message]:
        """Lease the messages that are due, of each hook and task only the first.

        Those to `only` these hooks, if there are any such, the least tried first; or those to all
        hooks `without` some.
        """

    def next_due(self, *, without: Collection[str] = ()) -> datetime | None:
        """Return when the next message may be taken, but to these hooks; None if none waits."""

    def delivered(self, numbers: Sequence[int]) -> None:
        """Forget messages that have arrived."""

    def failed(self, number: int, error: str, retry_at: datetime) -> None:
        """Let a message wait that did not arrive."""

    def given_up(self, number: int) -> None:
        """Forget a message that will not arrive."""

    def expire(self, href: str, before: datetime) -> int:
        """Forget the messages to a hook that are as old as that; return how many there were."""
