"""Values and blobs that a device keeps beside its records (QX-01, QX-02)."""

from typing import Any, Self

from sqlalchemy import Connection, LargeBinary, String, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from milonga.records._sessions import session_of
from milonga.records._tables import Base, table_of
from milonga.records._tracked import plain, track_changes
from milonga.records._types import JSON_COLUMN

__all__ = ["MAX_BLOB_BYTES", "DataBlob", "PluginState", "find_states", "keep_state"]

MAX_BLOB_BYTES = 16 * 1024 * 1024
"""What one blob may weigh; larger things are files of a task."""


class _Keyed:
    """What states and blobs have in common: a value by owner and key."""

    plugin_id: Any
    key: Any
    value: Any

    @classmethod
    def get_value(
        cls, plugin_id: str, key: str, default: Any = ..., *, session: Session | None = None
    ) -> Any:
        """Return the value of a key, or `default`.

        Raises
        ------
        KeyError
            If there is none, and no default.
        """
        row = cls._row(plugin_id, key, session)
        if row is not None:
            return plain(row.value)
        if default is ...:
            raise KeyError(key)
        return default

    @classmethod
    def set_value(
        cls,
        plugin_id: str,
        key: str,
        value: Any,
        commit: bool = False,
        *,
        session: Session | None = None,
    ) -> Any:
        """Set a value and return the one before, or None."""
        chosen = session_of(None, session)
        cls._check(value)
        row = cls._row(plugin_id, key, chosen)
        old = None
        if row is None:
            chosen.add(cls(plugin_id, key, value))  # type: ignore[call-arg]
        else:
            old, row.value = plain(row.value), value
        if commit:
            chosen.commit()
        return old

    @classmethod
    def delete_value(
        cls, plugin_id: str, key: str, commit: bool = False, *, session: Session | None = None
    ) -> None:
        """Forget a key; does nothing if it is not there."""
        chosen = session_of(None, session)
        chosen.execute(delete(cls).where(cls.plugin_id == plugin_id, cls.key == key))
        if commit:
            chosen.commit()

    @classmethod
    def get_keys(
        cls, plugin_id: str, prefix: str = "", *, session: Session | None = None
    ) -> list[str]:
        """Return the keys that begin with `prefix`, in order."""
        own = select(cls.key).where(
            cls.plugin_id == plugin_id, cls.key.startswith(prefix, autoescape=True)
        )
        return [*session_of(None, session).scalars(own.order_by(cls.key))]

    @classmethod
    def _row(cls, plugin_id: str, key: str, session: Session | None) -> Self | None:
        return session_of(None, session).get(cls, (plugin_id, key))

    @classmethod
    def _check(cls, value: Any) -> None:
        """Refuse what cannot be kept."""


class PluginState(_Keyed, Base):
    """A JSON value by device and key, such as the last configuration that worked."""

    __tablename__ = "plugin_state"

    plugin_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False)


class DataBlob(_Keyed, Base):
    """Bytes by device and key; not for the results of tasks."""

    __tablename__ = "data_blob"

    plugin_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)

    @classmethod
    def _check(cls, value: Any) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"blob: found {type(value).__name__}, expected bytes")
        if len(value) > MAX_BLOB_BYTES:
            raise ValueError(f"blob: found {len(value)} bytes, expected <= {MAX_BLOB_BYTES}")


track_changes(PluginState.value)


def keep_state(connection: Connection, plugin_id: str, key: str, value: Any) -> None:
    """Set a value, whether or not there was one."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"plugin_id": plugin_id, "key": key, "value": value}
    new = dialect.insert(table_of(PluginState)).values(row)
    connection.execute(
        new.on_conflict_do_update(index_elements=["plugin_id", "key"], set_={"value": value})
    )


def find_states(session: Session, plugin_id: str) -> dict[str, Any]:
    """Return all values that a device keeps."""
    own = select(PluginState.key, PluginState.value).where(PluginState.plugin_id == plugin_id)
    return {key: plain(value) for key, value in session.execute(own)}
