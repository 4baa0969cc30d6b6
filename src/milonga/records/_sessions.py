"""Which session a model's method means.

QHAna's models find their session in a global of the web framework. Here it is the session of the
object, or the one of the ``with store.session()`` around, which each thread has for itself (C-22).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy.orm import Session, object_session

__all__ = ["as_current", "keep", "session_of"]

_current: ContextVar[Session | None] = ContextVar("milonga_records_session", default=None)


@contextmanager
def as_current(session: Session) -> Iterator[Session]:
    """Let `session` be the one that methods mean which are called in this context."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


def session_of(owner: object, session: Session | None) -> Session:
    """Return the session that was given, or that of `owner`, or the current one.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    found = session
    if found is None and hasattr(owner, "_sa_instance_state"):
        found = object_session(owner)
    if found is None:
        found = _current.get()
    if found is None:
        raise RuntimeError("no session: call it within `with store.session():`, or pass session=")
    return found


def keep(owner: object, commit: bool) -> None:
    """Commit the session of `owner` if asked to."""
    if commit:
        session_of(owner, None).commit()
