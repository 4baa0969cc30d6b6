"""What came of an analysis, attached to the record of the leaf that ran it (LX-09, LX-10)."""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from milonga.errors import FileRefused
from milonga.records._analysis import DescribedAnalysis, TaskResult
from milonga.records._analysis_store import record_analysis
from milonga.records._attachments import TaskAttachments, plots_in
from milonga.records._codec import FileReference, description_to_json, encode
from milonga.records._figures import suffix_of
from milonga.records._file_model import TaskFile, TaskLink
from milonga.records._file_names import Content
from milonga.records._files import FileStore
from milonga.records._lifecycle import find_task
from milonga.records._store import RecordStore
from milonga.records._tracked import plain
from milonga.records._types import dump_json

__all__ = ["MAX_ATTACHED", "AnalysisOutput", "Attached", "attach_analysis"]

MAX_ATTACHED = 100
"""Files, and links, that one analysis may attach."""

MAX_INLINE = 64 * 1024
"""Characters of a payload or a summary that are kept in the data of a record."""

_MAX_HREF = 500
_JSON = "application/json"

_MIMETYPES = {".png": "image/png", ".pdf": "application/pdf", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class AnalysisOutput:
    """What an analysis attached by messages.

    Parameters
    ----------
    files, links : tuple of mapping
        The contents of its messages TASK_FILE and TASK_LINK.
    """

    files: tuple[Mapping[str, Any], ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """What was stored of an analysis, and what was not.

    Parameters
    ----------
    files : tuple of TaskFile
        The files, in order.
    refusals : tuple of str
        What could not be stored, each with its name and the reason.
    """

    files: tuple[TaskFile, ...] = ()
    refusals: tuple[str, ...] = ()


def attach_analysis(
    store: RecordStore,
    files: FileStore,
    task: str,
    description: DescribedAnalysis,
    output: AnalysisOutput,
    run: str | None = None,
) -> Attached:
    """Store the result of an analysis with the record of its task.

    The description is in the record's data, with large parts as files, and its parameters and
    result are in the tables of `record_analysis`; figures, the payload as JSON, and what was
    attached are files; addresses are links. The description is stored first,
    and what is wrong with one file costs that file alone; the refusals are in the data as well.

    Parameters
    ----------
    store : RecordStore
        Where the record is.
    files : FileStore
        Where the bytes go.
    task : str
        Unique name of the task.
    description : DescribedAnalysis
        The analysis.
    output : AnalysisOutput
        What else it gave.
    run : str, optional
        The run that it is about.

    Raises
    ------
    RecordNotFound
        If there is no such task.
    """
    work = _Attaching(store, files, task)
    work.describe(description, run)
    for draft in _drafts(description.task_result, work.some("files", output.files)):
        work.keep(draft)
    work.link(work.some("links", output.links))
    work.note_refusals()
    return Attached(tuple(work.kept), tuple(work.refusals))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A file that is to be stored; its content is made when it is."""

    name: str
    kind: str
    mimetype: str
    content: Callable[[], Content]


class _Attaching:
    """The work of `attach_analysis`, step by step."""

    def __init__(self, store: RecordStore, files: FileStore, task: str) -> None:
        self.kept: list[TaskFile] = []
        self.refusals: list[str] = []
        self._store = store
        self._files = files
        self._task = task

    def describe(self, description: DescribedAnalysis, run: str | None) -> None:
        """Put the description into the data of the record, and into the tables of analyses."""
        attachments = TaskAttachments(self._store, self._files, self._task)
        try:
            told = description_to_json(description, attachments)
        except Exception as error:  # noqa: BLE001 - whatever a value or a disk may raise
            self._refuse("result", error)
            text = f"not stored: {error}"
            bare = replace(description.task_result, summary=text, payload=None)
            description = replace(description, task_result=bare)
            told = description_to_json(description)
        self._add_to_data(analysis=self._without_large(told, attachments))
        if description.task_parameters is None:
            return  # it never began, and has nothing to be found by
        try:
            record_analysis(self._store, description, uid=self._task, run=run, files=attachments)
        except Exception as error:  # noqa: BLE001 - the description is there
            self._refuse("parameters", error)

    def _without_large(self, told: dict[str, Any], attachments: TaskAttachments) -> dict[str, Any]:
        """Put parts into files that would make each look at the record a long one."""
        result = dict(told["task_result"])
        for name in ("payload", "summary"):
            text = dump_json(result[name])
            if len(text) > MAX_INLINE:
                try:
                    reference = attachments.put(f"{name}.json", text.encode(), _JSON)
                except Exception as error:  # noqa: BLE001 - as any other file
                    self._refuse(name, error)
                    result[name] = f"not stored: {error}"
                else:
                    result[name] = encode(FileReference(reference, _JSON, name))
        return told | {"task_result": result}

    def some(self, what: str, items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return as many as may be attached."""
        if len(items) > MAX_ATTACHED:
            self._refuse(what, f"found {len(items)}, expected <= {MAX_ATTACHED}")
        return items[:MAX_ATTACHED]

    def keep(self, draft: _Draft) -> None:
        """Store a file."""
        try:
            kept = self._files.persist_task_result(
                self._task, draft.content(), draft.name, draft.kind[:255], draft.mimetype[:255]
            )
        except Exception as error:  # noqa: BLE001 - one bad file must not cost the others
            self._refuse(draft.name, error)
        else:
            self.kept.append(kept)

    def link(self, links: Sequence[Mapping[str, Any]]) -> None:
        """Add the links."""
        good = [link for link in links if self._is_good(link)]
        if not good:
            return
        with self._store.session() as session:
            number = find_task(session, self._task, locked=True).id
            for link in good:
                added = TaskLink(str(link.get("kind", ""))[:64], str(link["href"]))
                added.task_id = number
                session.add(added)
            session.commit()

    def note_refusals(self) -> None:
        """Put into the data what was not stored."""
        if self.refusals:
            self._add_to_data(refusals=list(self.refusals))

    def _is_good(self, link: Mapping[str, Any]) -> bool:
        href = str(link.get("href", ""))
        if 0 < len(href) <= _MAX_HREF:
            return True
        self._refuse(f"link {href:.40}", f"found {len(href)} characters, expected 1..{_MAX_HREF}")
        return False

    def _refuse(self, name: str, why: object) -> None:
        text = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
        self.refusals.append(f"{name}: {text}"[:1000])

    def _add_to_data(self, **values: Any) -> None:
        with self._store.session() as session:
            row = find_task(session, self._task, locked=True)
            row.data = {**(plain(row.data) or {}), **values}
            session.commit()


def _drafts(result: TaskResult, attached: Sequence[Mapping[str, Any]]) -> Iterator[_Draft]:
    for plots in plots_in(result.summary):
        for number, page in enumerate(plots.pages):
            suffix = suffix_of(page)
            name = f"{plots.display_name}{f'-{number}' if number else ''}{suffix}"
            yield _Draft(name, "plot", _MIMETYPES.get(suffix, "text/html"), partial(_same, page))
    if result.payload is not None:
        payload = partial(_payload_text, result.payload)
        kind = result.impl_schemas or "payload"
        yield _Draft("payload.json", kind, _JSON, payload)
    for file in attached:
        name, kind, mimetype = (str(file.get(key, "")) for key in ("name", "kind", "mimetype"))
        yield _Draft(name, kind, mimetype, partial(_attached, file))


def _same(content: Content) -> Content:
    return content


def _payload_text(payload: Any) -> str:
    return dump_json(encode(payload))


def _attached(file: Mapping[str, Any]) -> Content:
    if "path" in file:
        return Path(str(file["path"]))
    try:
        return base64.b64decode(str(file.get("base64", "")), validate=True)
    except binascii.Error as error:
        raise FileRefused(f"file {file.get('name')!r}: found no base64, expected it") from error
