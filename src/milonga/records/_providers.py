"""Where the bytes of files are kept."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

from milonga.errors import FileRefused
from milonga.records._file_model import TaskFile
from milonga.records._file_names import Content, Written, safe_name, write_new

__all__ = ["FileProvider", "LocalFiles", "Stored", "UrlFiles", "load_providers"]

_logger = logging.getLogger(__name__)


class Stored(Protocol):
    """What a provider says of a file that it keeps now."""

    @property
    def data(self) -> str:
        """By what the provider finds the file again."""

    @property
    def size(self) -> int | None:
        """Its bytes, if they are known."""

    @property
    def sha256(self) -> str | None:
        """The hash of its content, if it is known."""


class FileProvider(Protocol):
    """Keeps the bytes of files."""

    def put(
        self, folder: str, name: str, content: Content, check: Callable[[int], object]
    ) -> Stored:
        """Keep a file; `check` is called with the bytes so far and may refuse."""

    def url(self, file: TaskFile) -> str:
        """Return the address at which programs here find the file."""

    def open(self, file: TaskFile) -> AbstractContextManager[IO[bytes]]:
        """Open the file to read its bytes."""

    def delete(self, file: TaskFile) -> None:
        """Forget the file; does nothing if it is not there."""


class _LocalFile:
    """A file below the root."""

    def __init__(self, root: Path, written: Written) -> None:
        self.data = written.path.relative_to(root).as_posix()
        self.size: int | None = written.size
        self.sha256: str | None = written.sha256


class LocalFiles:
    """Keeps files below one folder, and touches nothing outside of it (C-2).

    Parameters
    ----------
    root : Path
        The folder; it is made when the first file comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def put(
        self, folder: str, name: str, content: Content, check: Callable[[int], object]
    ) -> Stored:
        """Write a file below `folder`, under its name or the next that is free."""
        target = self._inside(f"{folder}/{safe_name(name)}")
        return _LocalFile(self.root, write_new(target, content, check))

    def url(self, file: TaskFile) -> str:
        """Return the file URL."""
        return self._path(file).as_uri()

    @contextmanager
    def open(self, file: TaskFile) -> Iterator[IO[bytes]]:
        """Open the file to read its bytes."""
        with self._path(file).open("rb") as opened:
            yield opened

    def delete(self, file: TaskFile) -> None:
        """Delete the file, and its folder if that is empty then."""
        path = self._path(file)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()

    def names(self) -> Iterator[Path]:
        """Yield all files of tasks, finished or not, as paths."""
        own = (path for path in self.root.rglob("*") if path.is_file())
        yield from (path for path in own if path.parent != self.root)

    def _path(self, file: TaskFile) -> Path:
        return self._inside(file.file_storage_data)

    def _inside(self, data: str) -> Path:
        """Return a path below the root, also if somebody has put links there.

        It is not held to the lengths of names: those are for what clients ask for, and a file that
        was stored under a number is a little longer.
        """
        path, root = self.root / data, self.root.resolve()
        if not (path.is_relative_to(self.root) and root in path.resolve().parents):
            raise FileRefused(f"file: found {data!r}, which leads out of {self.root}")
        return path


class _Reference:
    """A file that is somewhere else."""

    def __init__(self, href: str) -> None:
        self.data = href
        self.size: int | None = None
        self.sha256: str | None = None


class UrlFiles:
    """Keeps only the addresses of files that are somewhere else (QF-06)."""

    def put(
        self, folder: str, name: str, content: Content, check: Callable[[int], object]
    ) -> Stored:
        """Keep an address, which is the content."""
        del folder, name, check
        if not isinstance(content, str):
            raise TypeError(f"URL: found {type(content).__name__}, expected a text")
        if urlsplit(content).scheme not in {"http", "https"}:
            raise FileRefused(f"URL: found {content!r:.100}, expected an http or https URL")
        return _Reference(content)

    def url(self, file: TaskFile) -> str:
        """Return the address."""
        return file.file_storage_data

    def open(self, file: TaskFile) -> AbstractContextManager[IO[bytes]]:
        """Refuse: this program does not fetch what a client named."""
        raise FileRefused(f"file {file.id} is at {file.file_storage_data}, not here")

    def delete(self, file: TaskFile) -> None:
        """Do nothing: the file is not ours."""


def load_providers(
    makers: Mapping[str, Callable[[], FileProvider]],
) -> dict[str, FileProvider]:
    """Make providers by name; one that cannot be made is logged and left out (QF-01)."""
    providers: dict[str, FileProvider] = {}
    for name, make in makers.items():
        try:
            providers[name] = make()
        except Exception:
            _logger.exception("file provider %r is left out", name)
    return providers
