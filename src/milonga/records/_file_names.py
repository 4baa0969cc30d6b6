"""Names under which files may be stored, and writing them so that they are there or not."""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from milonga.errors import FileRefused

__all__ = ["Content", "Written", "blocks_of", "safe_name", "write_new"]

Content = str | bytes | Path | IO[str] | IO[bytes]
"""What can be stored: text, bytes, a path, or an open file of either kind."""

MAX_NAME = 200
"""Bytes of each part of a name; file systems take 255, and a number may be added."""

MAX_PATH = 500
"""Characters of a whole name."""

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: where, how long, and the hash of its content."""

    path: Path
    size: int
    sha256: str


def safe_name(name: str) -> PurePosixPath:
    """Return a name as a relative path that stays where it is put (QF-04).

    Raises
    ------
    FileRefused
        If the name goes up, is empty, too long, or no text that a file system takes. It is a
        `ValueError`.

    Examples
    --------
    >>> str(safe_name("/etc//hostname"))
    'etc/hostname'
    """
    if not name.isprintable() or "\\" in name:
        raise FileRefused(f"file name: found {name!r}, expected printable text with no backslash")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if not parts or ".." in parts:
        raise FileRefused(f"file name: found {name!r}, expected a path that does not go up")
    if any(len(os.fsencode(part)) > MAX_NAME for part in parts) or len(name) > MAX_PATH:
        raise FileRefused(f"file name: found {len(name)} characters, expected a shorter name")
    return PurePosixPath(*parts)


def blocks_of(content: Content, encoding: str = "utf-8") -> Iterator[bytes]:
    """Yield the bytes of a content; an open file is read from its start if it can be."""
    if isinstance(content, str):
        content = content.encode(encoding)
    if isinstance(content, Path):
        with content.open("rb") as file:
            yield from blocks_of(file)
        return
    if isinstance(content, bytes):
        content = io.BytesIO(content)
    if not callable(getattr(content, "read", None)):
        raise TypeError(
            f"file: found {type(content).__name__}, expected text, bytes, a path or an open file"
        )
    with contextlib.suppress(AttributeError, OSError):
        content.seek(0)
    while block := content.read(_BLOCK):
        yield block.encode(encoding) if isinstance(block, str) else block


def write_new(
    target: Path, content: Content, check: Callable[[int], object] | None = None
) -> Written:
    """Write a file that is there completely or not at all; never over another one (QF-08).

    Parameters
    ----------
    target : Path
        Where; if there is a file of this name, a number is added.
    content : Content
        What.
    check : callable, optional
        Called with the bytes so far; what it raises ends it, and nothing stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for block in blocks_of(content):
                size += len(block)
                if check is not None:
                    check(size)
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        path = _link(part, target)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return Written(path, size, digest.hexdigest())


def _link(part: Path, target: Path) -> Path:
    """Give a finished file its name, or the next one that is free."""
    for path in _candidates(target):
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(part)  # unlike a rename it does not replace what is there
            return path
    raise AssertionError("names are endless")


def _candidates(target: Path) -> Iterator[Path]:
    yield target
    number = 1
    while True:
        yield target.with_name(f"{target.stem}-{number}{target.suffix}")
        number += 1


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
