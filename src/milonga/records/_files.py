"""Files of tasks: stored with a provider, found by a row, handed out for a token."""

import hmac
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from milonga.errors import QuotaExceeded, RecordNotFound
from milonga.records._file_model import TEMP_FILE, TaskFile
from milonga.records._file_names import Content, safe_name
from milonga.records._lifecycle import TaskKey, find_task
from milonga.records._providers import FileProvider, LocalFiles, Stored, UrlFiles, load_providers
from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask

__all__ = ["FileQuota", "FileStore"]

_logger = logging.getLogger(__name__)

_OCTETS = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class FileQuota:
    """How many bytes may be stored.

    Parameters
    ----------
    file, task, total : int
        Bytes of one file, of all files of a task, and of all files.
    """

    file: int = 2 * 1024**3
    task: int = 8 * 1024**3
    total: int = 64 * 1024**3


class FileStore:
    """The files of a store's tasks; any thread may use it.

    Parameters
    ----------
    store : RecordStore
        Where the rows are.
    providers : mapping
        Where the bytes are, by name; see `FileStore.local` for the usual ones.
    default : str, optional
        The provider for files whose caller names none.
    quota : FileQuota, optional
        How much may be stored.
    base_url : str, optional
        What the addresses for clients begin with.
    tag_lifetime : float, optional
        Seconds for which a file can be had from outside; default: as long as it is there.
    """

    def __init__(
        self,
        store: RecordStore,
        providers: Mapping[str, FileProvider],
        default: str = "local",
        *,
        quota: FileQuota | None = None,
        base_url: str = "",
        tag_lifetime: float | None = None,
    ) -> None:
        self._store = store
        self._providers = dict(providers)
        self._default = default
        self._quota = quota or FileQuota()
        self._base_url = base_url.rstrip("/")
        self._tag_lifetime = timedelta(seconds=tag_lifetime) if tag_lifetime is not None else None

    @classmethod
    def local(cls, store: RecordStore, root: Path, **options: object) -> "FileStore":
        """Make one with the providers ``local``, below `root`, and ``url``."""
        makers: dict[str, Callable[[], FileProvider]] = {
            "local": lambda: LocalFiles(root),
            "url": UrlFiles,
        }
        return cls(store, load_providers(makers), **options)  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> FileProvider:
        return self._providers[name]

    @property
    def default(self) -> FileProvider:
        """The provider for files whose caller names none.

        Raises
        ------
        NotImplementedError
            If there is no provider of that name.
        """
        return self._provider(None)[1]

    def persist_task_result(
        self,
        task_id: TaskKey,
        file: Content,
        file_name: str,
        file_type: str,
        mimetype: str | None = None,
        commit: bool = True,
        *,
        storage_provider: str | None = None,
        session: Session | None = None,
    ) -> TaskFile:
        """Store a file that a task made, below ``task_<id>/out/`` (QF-02).

        Parameters
        ----------
        task_id : int or str
            Number or unique name of the task.
        file : text, bytes, Path or open file
            The content.
        file_name : str
            Its name; it may have folders. Another file of the same name is kept.
        file_type, mimetype : str
            What it is.
        commit : bool, optional
            Whether to commit; without it, `session` has to.
        storage_provider : str, optional
            Where to keep it.
        session : Session, optional
            The transaction that the row belongs to; default: one of its own.

        Raises
        ------
        RecordNotFound
            If there is no such task; it is a `KeyError`.
        FileRefused
            If the name leads elsewhere.
        QuotaExceeded
            If there is no room.
        """
        place = _Place("out", file_name, file_type, mimetype or _OCTETS, storage_provider)
        return self._persist(task_id, file, place, commit, session)

    def persist_task_temp_file(
        self,
        task_id: TaskKey,
        file: Content,
        file_name: str,
        mimetype: str | None = None,
        commit: bool = True,
        *,
        storage_provider: str | None = None,
        session: Session | None = None,
    ) -> TaskFile:
        """Store a file that goes when its task ends, below ``task_<id>/tmp/``."""
        place = _Place("tmp", file_name, TEMP_FILE, mimetype or _OCTETS, storage_provider)
        return self._persist(task_id, file, place, commit, session)

    def get_task_file_url(self, file: TaskFile, external: bool = True) -> str:
        """Return the address of a file: for clients, or for programs here (QF-07)."""
        if not external or file.storage_provider == "url":
            return self._providers[file.storage_provider].url(file)
        return f"{self._base_url}/files/{file.id}/?file-id={file.security_tag}"

    def open(self, file: TaskFile) -> AbstractContextManager[IO[bytes]]:
        """Open a file to read its bytes."""
        return self._providers[file.storage_provider].open(file)

    def open_for_client(self, number: int, tag: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for somebody who has its number and its token.

        Raises
        ------
        RecordNotFound
            If there is no such file, the token is another one, or its time is over: one answer
            for all three, so that nobody learns which files there are (QF-03, C-20).
        """
        with self._store.reading() as session:
            file = session.get(TaskFile, number)
        right = hmac.compare_digest((file.security_tag if file else "").encode(), tag.encode())
        expires = file.tag_expires_at if file else None
        fresh = expires is None or self._store.clock() < expires
        if file is None or not right or not fresh or file.file_type == TEMP_FILE:
            raise RecordNotFound(f"file: found no file {number} for this token")
        return self.open(file)

    def delete(self, file: TaskFile) -> None:
        """Delete the bytes of a file; its row is left to the caller."""
        self._providers[file.storage_provider].delete(file)

    def remove_temp_files(self, task: TaskKey | None = None) -> int:
        """Delete the temporary files of a task, or of all tasks that are over; return how many."""
        with self._store.reading() as session:
            query = select(TaskFile).where(TaskFile.file_type == TEMP_FILE)
            if task is not None:
                query = query.where(TaskFile.task_id == find_task(session, task).id)
            else:
                query = query.join(ProcessingTask, TaskFile.task_id == ProcessingTask.id)
                query = query.where(ProcessingTask.finished_at.is_not(None))
            files = session.scalars(query).all()
        files = [file for file in files if self._let_go(file)]
        with self._store.session() as session:
            for file in files:
                row = session.get(TaskFile, file.id)
                if row is not None:
                    session.delete(row)
            session.commit()
        return len(files)

    def _let_go(self, file: TaskFile) -> bool:
        try:
            self.delete(file)
        except Exception as error:  # noqa: BLE001 - one file must not keep all the others
            _logger.warning("temporary file %s stays: %s", file.file_name, error)
            return False
        return True

    def sweep(self, older_than: float = 3600.0) -> int:
        """Delete local files that no row knows of, such as a crash leaves; return how many.

        Parameters
        ----------
        older_than : float, optional
            Seconds since they were written. The row comes after the bytes, so younger ones may be
            about to get theirs.
        """
        gone = 0
        for name, provider in self._providers.items():
            if not isinstance(provider, LocalFiles):
                continue
            with self._store.reading() as session:
                own = select(TaskFile.file_storage_data).where(TaskFile.storage_provider == name)
                known = set(session.scalars(own))
            for path in [*provider.names()]:
                old = time.time() - path.stat().st_mtime >= older_than
                if old and path.relative_to(provider.root).as_posix() not in known:
                    path.unlink(missing_ok=True)
                    gone += 1
        return gone

    def _provider(self, name: str | None) -> tuple[str, FileProvider]:
        wanted = name or self._default
        if wanted not in self._providers:
            known = ", ".join(sorted(self._providers)) or "none"
            raise NotImplementedError(f"file provider: found {wanted!r}, expected one of {known}")
        return wanted, self._providers[wanted]

    def _persist(
        self,
        task_id: TaskKey,
        content: Content,
        place: "_Place",
        commit: bool,
        session: Session | None,
    ) -> TaskFile:
        if session is None and not commit:
            raise ValueError("commit=False needs the session= that is going to commit")
        if session is not None:
            return self._persist_in(session, task_id, content, place, commit)
        with self._store.reading() as reader:
            room = self._room(reader, task_id)
        # The bytes are written while no transaction is open: a large file takes its time.
        kept = self._put(room, content, place)
        with self._store.session() as own:
            return self._add(own, kept, place, commit=True)

    def _persist_in(
        self, session: Session, task_id: TaskKey, content: Content, place: "_Place", commit: bool
    ) -> TaskFile:
        kept = self._put(self._room(session, task_id), content, place)
        return self._add(session, kept, place, commit=commit)

    def _room(self, session: Session, task_id: TaskKey) -> "_Room":
        """Find the task, and how many bytes it may still store."""
        number = find_task(session, task_id).id
        size = func.coalesce(func.sum(TaskFile.size), 0)
        of_task = session.scalar(select(size).where(TaskFile.task_id == number)) or 0
        of_all = session.scalar(select(size)) or 0
        left = {
            "this file": self._quota.file,
            "the files of this task": self._quota.task - int(of_task),
            "all files": self._quota.total - int(of_all),
        }
        whose = min(left, key=lambda name: left[name])
        return _Room(number, left[whose], whose)

    def _put(self, room: "_Room", content: Content, place: "_Place") -> "_Kept":
        name, provider = self._provider(place.provider)
        stored = provider.put(f"task_{room.number}/{place.folder}", place.name, content, room.check)
        return _Kept(room.number, name, stored)

    def _add(self, session: Session, kept: "_Kept", place: "_Place", *, commit: bool) -> TaskFile:
        now = self._store.clock()
        file = TaskFile(
            kept.provider,
            str(safe_name(place.name)),
            kept.stored.data,
            file_type=place.file_type,
            mimetype=place.mimetype,
            size=kept.stored.size,
            sha256=kept.stored.sha256,
            created_at=now,
            tag_expires_at=now + self._tag_lifetime if self._tag_lifetime else None,
        )
        file.task_id = kept.number
        try:
            session.add(file)
            session.flush()
            if commit:
                session.commit()
        except Exception:
            self.delete(file)  # no row, no file
            raise
        return file


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file goes, and what it is."""

    folder: str
    name: str
    file_type: str
    mimetype: str
    provider: str | None


@dataclass(frozen=True, slots=True)
class _Room:
    """How many bytes a task may still store, and whose bound that is."""

    number: int
    left: int
    whose: str

    def check(self, size: int) -> None:
        """Refuse a file that is larger."""
        if size > self.left:
            raise QuotaExceeded(
                f"file: found {size} bytes or more, expected <= {max(0, self.left)}, "
                f"which is what is left for {self.whose}"
            )


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file whose bytes are stored."""

    number: int
    provider: str
    stored: Stored
