"""Files of tasks: no name leads out, no crash leaves half of one, no token is guessed."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milonga.errors import FileRefused, QuotaExceeded, RecordNotFound
from milonga.records import (
    FileQuota,
    FileStore,
    RecordStore,
    TaskFile,
    UrlFiles,
    load_providers,
    safe_name,
    save_task_result,
    start_task,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the folder of the files."""
    return tmp_path / "files"


@pytest.fixture
def files(store: RecordStore, root: Path) -> FileStore:
    """Give a file store."""
    return FileStore.local(store, root, base_url="http://here/")


@pytest.fixture
def task(store: RecordStore) -> int:
    """Give a task."""
    return start_task(store, "Configure")


def content(files: FileStore, file: TaskFile) -> bytes:
    """Return the bytes of a file."""
    with files.open(file) as opened:
        return opened.read()


def test_results_and_temporary_files_have_their_places(
    files: FileStore, task: int, root: Path
) -> None:
    """QF-02: below the task's folder, with hash and size."""
    result = files.persist_task_result(task, "text", "a/plot.txt", "plot")
    temporary = files.persist_task_temp_file(task, b"bytes", "x.bin")

    assert result.file_storage_data == f"task_{task}/out/a/plot.txt"
    assert temporary.file_storage_data == "/".join((f"task_{task}", "tmp", "x.bin"))
    assert (result.mimetype, temporary.file_type) == ("application/octet-stream", "temp-file")
    assert (result.size, result.sha256) == (4, hashlib.sha256(b"text").hexdigest())
    assert (root / result.file_storage_data).read_bytes() == b"text"


@pytest.mark.parametrize(
    "given_content",
    [
        "grün",
        "grün".encode(),
        io.BytesIO("grün".encode()),
        io.StringIO("grün"),
    ],
)
def test_every_kind_of_content_is_taken(files: FileStore, task: int, given_content: Any) -> None:
    """QF-05, C-18: also BytesIO and StringIO; what can be rewound is."""
    if hasattr(given_content, "read"):
        given_content.read()
        given_content.seek(0, os.SEEK_END)

    assert content(files, files.persist_task_result(task, given_content, "f", "t")) == (
        "grün".encode()
    )


def test_paths_and_open_files_are_taken(files: FileStore, task: int, tmp_path: Path) -> None:
    """QF-05: a path, a file opened as text or bytes, and what cannot be rewound."""
    source = tmp_path / "source"
    source.write_text("abc")
    with source.open() as as_text, source.open("rb") as as_bytes:
        for given_content in (source, as_text, as_bytes):
            file = files.persist_task_result(task, given_content, "f", "t")
            assert content(files, file) == b"abc"
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert content(files, files.persist_task_result(task, pipe, "f", "t")) == b"piped"
    with pytest.raises(TypeError, match="found int"):
        files.persist_task_result(task, 5, "f", "t")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "", "/", "..", "a\x00b", "a\\b", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(files: FileStore, task: int, name: str) -> None:
    """QF-04: with a ValueError, before anything is written."""
    with pytest.raises(ValueError, match="file name: found"):
        files.persist_task_result(task, "x", name, "t")


def test_an_absolute_name_does_not_serve_that_file(files: FileStore, task: int, root: Path) -> None:
    """C-2, QF-04: it is made relative, in the row as on disk."""
    file = files.persist_task_result(task, "mine", "/etc/hostname", "t")

    assert content(files, file) == b"mine"
    assert file.file_name == "etc/hostname"
    assert Path(root / file.file_storage_data).resolve().is_relative_to(root.resolve())


@pytest.mark.parametrize("data", ["/etc/hostname", "../../etc/hostname"])
def test_a_row_that_leads_elsewhere_serves_nothing(files: FileStore, data: str) -> None:
    """C-2: the way back is checked as well."""
    file = TaskFile("local", "x", data)

    with pytest.raises((FileRefused, FileNotFoundError)):
        content(files, file)


def test_a_link_leads_nowhere_else(files: FileStore, task: int, root: Path, tmp_path: Path) -> None:
    """QF-04: also not through links on disk."""
    (root / f"task_{task}").mkdir(parents=True)
    (root / f"task_{task}" / "out").symlink_to(tmp_path)

    with pytest.raises(FileRefused, match="leads out of"):
        files.persist_task_result(task, "x", "f", "t")


@given(st.text(alphabet=st.sampled_from("ab./\\ \x00~\u2215-"), max_size=30))
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    """QF-04: whatever a client sends."""
    root = Path("/files")
    try:
        path = root / safe_name(name)
    except FileRefused:
        return
    assert Path(os.path.normpath(path)) == path
    assert path.is_relative_to(root)
    assert path != root


def test_the_same_name_twice_keeps_both(files: FileStore, task: int) -> None:
    """QF-08, C-18: the second gets a number."""
    first = files.persist_task_result(task, "one", "f.txt", "t")
    second = files.persist_task_result(task, "two", "f.txt", "t")

    assert [content(files, file) for file in (first, second)] == [b"one", b"two"]
    assert second.file_storage_data.endswith("f-1.txt")


def test_the_longest_name_twice_keeps_both(files: FileStore, task: int) -> None:
    """QF-08: with its number it is longer than a client may ask for, and is read all the same."""
    name = "a" * 196 + ".png"
    first = files.persist_task_result(task, "one", name, "t")
    second = files.persist_task_result(task, "two", name, "t")

    assert [content(files, file) for file in (first, second)] == [b"one", b"two"]
    files.delete(second)
    with pytest.raises(FileNotFoundError):
        content(files, second)


def test_a_write_that_fails_leaves_nothing(files: FileStore, task: int, root: Path) -> None:
    """QF-08: no half file, no row."""

    class Broken:
        """A file that cannot be read to its end."""

        def __init__(self) -> None:
            self.blocks = [b"x" * 1000]

        def read(self, size: int) -> bytes:
            """Give one block, then fail."""
            del size
            if not self.blocks:
                raise OSError("the disk is gone")
            return self.blocks.pop()

    with pytest.raises(OSError, match="gone"):
        files.persist_task_result(task, Broken(), "f", "t")  # type: ignore[arg-type]

    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_a_row_that_fails_takes_its_file_along(
    files: FileStore, task: int, root: Path, store: RecordStore
) -> None:
    """C-18: no row, no file."""
    with store.session() as session:
        session.connection()
        with pytest.raises(Exception, match="task_file"):
            files.persist_task_result(task, "x", "f", object(), session=session)  # type: ignore[arg-type]

    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_what_a_crash_left_is_swept(files: FileStore, task: int, root: Path) -> None:
    """QF-08: files that no row knows of, once they are old enough."""
    kept = files.persist_task_result(task, "x", "f", "t")
    stray = root / f"task_{task}" / "out" / ".part-1"
    stray.write_text("half")

    assert files.sweep(older_than=3600) == 0
    assert files.sweep(older_than=0) == 1
    assert content(files, kept) == b"x"
    assert not stray.exists()


def test_there_is_a_bound_on_bytes(store: RecordStore, root: Path, task: int) -> None:
    """QF-08: of a file, of a task, of all; the text says which."""
    files = FileStore.local(store, root, quota=FileQuota(file=10, task=15, total=20))
    with pytest.raises(QuotaExceeded, match="expected <= 10, which is what is left for this file"):
        files.persist_task_result(task, "x" * 11, "f", "t")
    files.persist_task_result(task, "x" * 10, "f", "t")
    with pytest.raises(QuotaExceeded, match=r"expected <= 5.*files of this task"):
        files.persist_task_result(task, "x" * 6, "f", "t")
    other = start_task(store, "Scan")
    files.persist_task_result(other, "x" * 9, "f", "t")
    with pytest.raises(QuotaExceeded, match=r"expected <= 1.*all files"):
        files.persist_task_result(other, "xx", "f", "t")


def test_a_file_is_had_with_its_token(files: FileStore, task: int) -> None:
    """QF-03, QF-07: 43 characters; a wrong one is as good as no file."""
    file = files.persist_task_result(task, "x", "f", "t")

    assert len(file.security_tag) == 43
    assert (
        files.get_task_file_url(file) == f"http://here/files/{file.id}/?file-id={file.security_tag}"
    )
    assert files.get_task_file_url(file, external=False).startswith("file:///")
    with files.open_for_client(file.id, file.security_tag) as opened:
        assert opened.read() == b"x"
    for number, tag in ((file.id, "wrong"), (file.id, ""), (99, ""), (99, file.security_tag)):
        with pytest.raises(RecordNotFound, match="for this token"):
            files.open_for_client(number, tag)


def test_a_token_has_its_time(
    open_store: Callable[..., RecordStore], clock: Any, root: Path
) -> None:
    """QF-08, C-20: and temporary files are for nobody outside."""
    store = open_store(clock)
    task = start_task(store, "Configure")
    files = FileStore.local(store, root, tag_lifetime=60)
    file = files.persist_task_result(task, "x", "f", "t")
    temporary = files.persist_task_temp_file(task, "x", "f")
    with pytest.raises(RecordNotFound):
        files.open_for_client(temporary.id, temporary.security_tag)
    clock.advance(61)
    with pytest.raises(RecordNotFound):
        files.open_for_client(file.id, file.security_tag)


def test_temporary_files_go_when_the_task_ends(
    files: FileStore, store: RecordStore, task: int, root: Path
) -> None:
    """QF-08, C-11: those of running tasks stay."""
    files.persist_task_temp_file(task, "x", "f")
    other = start_task(store, "Scan")
    files.persist_task_temp_file(other, "x", "f")
    save_task_result(store, None, task)

    assert files.remove_temp_files() == 1
    assert not (root / f"task_{task}").exists()
    assert files.remove_temp_files(other) == 1


def test_a_temporary_file_that_stays_keeps_no_other(
    store: RecordStore, files: FileStore, task: int, root: Path
) -> None:
    """QF-02: such as one whose provider is not there any more."""
    others = FileStore(store, {"tape": UrlFiles()}, default="tape")
    others.persist_task_temp_file(task, "http://tape/1", "there")
    files.persist_task_temp_file(task, "here", "here")

    assert files.remove_temp_files(task) == 1
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_providers_are_found_by_name(store: RecordStore, task: int) -> None:
    """QF-01: one that cannot be made is left out; an unknown default is not implemented."""

    def broken() -> UrlFiles:
        raise OSError("no disk")

    files = FileStore(store, load_providers({"broken": broken, "url": UrlFiles}))

    assert isinstance(files["url"], UrlFiles)
    with pytest.raises(KeyError):
        files["broken"]
    with pytest.raises(NotImplementedError, match="found 'local', expected one of url"):
        files.persist_task_result(task, "x", "f", "t")


def test_addresses_are_kept_as_such(files: FileStore, task: int) -> None:
    """QF-06: a text, and nothing is fetched."""
    file = files.persist_task_result(task, "https://far/away", "f", "t", storage_provider="url")

    assert files.get_task_file_url(file) == "https://far/away"
    with pytest.raises(FileRefused, match="not here"):
        files.open(file)
    with pytest.raises(TypeError):
        files.persist_task_result(task, b"x", "f", "t", storage_provider="url")
    with pytest.raises(FileRefused, match="expected an http"):
        files.persist_task_result(task, "file:///etc/passwd", "f", "t", storage_provider="url")


def test_a_task_has_to_be_there(files: FileStore) -> None:
    """QF-02: a KeyError."""
    with pytest.raises(KeyError):
        files.persist_task_result(99, "x", "f", "t")


def test_a_file_can_belong_to_a_transaction(
    files: FileStore, store: RecordStore, task: int
) -> None:
    """QF-02: with commit=False its row comes and goes with the session."""
    with store.session() as session:
        files.persist_task_result(task, "x", "f", "t", commit=False, session=session)
    with store.reading():
        assert TaskFile.get_task_result_files(task) == []
    with pytest.raises(ValueError, match="needs the session"):
        files.persist_task_result(task, "x", "f", "t", commit=False)
