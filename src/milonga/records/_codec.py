"""Results of analyses as JSON, and back, without loss and without pickle (LU-07).

What JSON cannot say becomes an object with the key ``$type``. What is large or strange goes to a
file, of which JSON holds the reference. Loading never runs code: an object that only pickle could
restore comes back as the `FileReference` under which its bytes are.
"""

import base64
import io
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

from pydantic import BaseModel

from milonga.records._analysis import DescribedAnalysis, ElogSummaryPlots, TaskResult
from milonga.records._environment import recorded_environment
from milonga.records._words import AnalysisStatus

__all__ = [
    "FORMAT_VERSION",
    "Attachments",
    "FileReference",
    "decode",
    "description_from_json",
    "description_to_json",
    "encode",
    "result_from_json",
    "result_to_json",
]

FORMAT_VERSION = 1
_TYPE = "$type"


@dataclass(frozen=True)
class FileReference:
    """Bytes that are in a file.

    Parameters
    ----------
    reference : str
        By what the file is found.
    mimetype, described : str
        What it is, for programs and for people.
    """

    reference: str
    mimetype: str
    described: str = ""


class Attachments(Protocol):
    """Where bytes go that do not belong into JSON."""

    def put(self, name: str, data: bytes, mimetype: str) -> str:
        """Keep bytes, and return by what they are found."""

    def get(self, reference: str) -> bytes:
        """Return bytes that were kept."""


def encode(value: Any, files: Attachments | None = None) -> Any:
    """Return a value in words of JSON.

    Parameters
    ----------
    value : any
        None, bool, int, float, text, bytes, list, tuple, dict, path, plots, pydantic model, array,
        or anything else, which becomes a file.
    files : Attachments, optional
        Where files go; without it arrays are kept in the JSON, and what is unknown as its `repr`.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and not isinstance(value, AnalysisStatus):
        return int(value)
    for kind, writer in _WRITERS:
        if isinstance(value, kind):
            return writer(value, files)
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        return _write_array(value, files)
    return _write_unknown(value, files)


def decode(value: Any, files: Attachments | None = None) -> Any:
    """Return the value that `encode` has written.

    Raises
    ------
    ValueError
        If there is a type that this release does not know.
    """
    if isinstance(value, list):
        return [decode(item, files) for item in value]
    if not isinstance(value, dict):
        return value
    if _TYPE not in value:
        return {key: decode(item, files) for key, item in value.items()}
    kind = value[_TYPE]
    if kind not in _READERS:
        raise ValueError(f"value: found type {kind!r}, expected one of {', '.join(_READERS)}")
    return _READERS[kind](value, files)


# Writing


def _write_float(value: float, _: Attachments | None) -> Any:
    if math.isfinite(value):
        return float(value)
    return {_TYPE: "float", "value": repr(float(value))}


def _write_dict(value: dict[Any, Any], files: Attachments | None) -> Any:
    plain_keys = all(isinstance(key, str) for key in value) and _TYPE not in value
    if plain_keys:
        return {key: encode(item, files) for key, item in value.items()}
    items = [[encode(key, files), encode(item, files)] for key, item in value.items()]
    return {_TYPE: "dict", "items": items}


def _write_sequence(value: Any, files: Attachments | None) -> Any:
    items = [encode(item, files) for item in value]
    return items if isinstance(value, list) else {_TYPE: "tuple", "items": items}


def _write_bytes(value: bytes, files: Attachments | None) -> Any:
    if files is not None and len(value) > _INLINE:
        reference = files.put("bytes.bin", bytes(value), _OCTETS)
        return {_TYPE: "bytes", "file": reference}
    return {_TYPE: "bytes", "base64": base64.b64encode(value).decode()}


def _write_plots(value: ElogSummaryPlots, files: Attachments | None) -> Any:
    return {
        _TYPE: "plots",
        "display_name": value.display_name,
        "figures": encode(value.figures, files),
    }


def _write_array(value: Any, files: Attachments | None) -> Any:
    import numpy as np  # noqa: PLC0415 - only analyses that have arrays need it

    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "biuf":
        return encode(array.item(), files)
    if array.dtype.hasobject:  # only pickle could write it, and nobody should read that
        return _write_unknown(value, files)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    if files is None:
        return {_TYPE: "array", "base64": base64.b64encode(buffer.getvalue()).decode()}
    return {_TYPE: "array", "file": files.put("array.npy", buffer.getvalue(), _OCTETS)}


def _write_unknown(value: Any, files: Attachments | None) -> Any:
    described = f"{type(value).__module__}.{type(value).__qualname__}"
    if files is None:
        return {_TYPE: "text", "of": described, "value": repr(value)}
    try:
        data, name, mimetype = pickle.dumps(value), "object.pickle", "application/x-pickle"
    except Exception:  # noqa: BLE001 - whatever an object's own code raises
        data, name, mimetype = repr(value).encode(), "object.txt", "text/plain"
    return {
        _TYPE: "file",
        "file": files.put(name, data, mimetype),
        "mimetype": mimetype,
        "of": described,
    }


def _write_reference(value: FileReference, _: Attachments | None) -> Any:
    return {
        _TYPE: "file",
        "file": value.reference,
        "mimetype": value.mimetype,
        "of": value.described,
    }


def _write_model(value: BaseModel, files: Attachments | None) -> Any:
    return encode(value.model_dump(mode="json"), files)


_INLINE = 4096
_OCTETS = "application/octet-stream"
_WRITERS: tuple[tuple[Any, Callable[[Any, Attachments | None], Any]], ...] = (
    (AnalysisStatus, lambda value, _: {_TYPE: "status", "value": value.name}),
    (float, _write_float),
    (dict, _write_dict),
    (list | tuple, _write_sequence),
    (bytes | bytearray, _write_bytes),
    (PurePath, lambda value, _: {_TYPE: "path", "value": str(value)}),
    (ElogSummaryPlots, _write_plots),
    (FileReference, _write_reference),
    (BaseModel, _write_model),
)


# Reading


def _read_bytes(value: dict[str, Any], files: Attachments | None) -> bytes:
    if "base64" in value:
        return base64.b64decode(value["base64"])
    if files is None:
        raise ValueError(f"bytes are in file {value['file']!r}, expected files= to read them")
    return files.get(value["file"])


def _read_array(value: dict[str, Any], files: Attachments | None) -> Any:
    import numpy as np  # noqa: PLC0415 - as above

    return np.load(io.BytesIO(_read_bytes(value, files)), allow_pickle=False)


_READERS: dict[str, Callable[[dict[str, Any], Attachments | None], Any]] = {
    "float": lambda value, _: float(value["value"]),
    "dict": lambda value, files: {
        decode(key, files): decode(item, files) for key, item in value["items"]
    },
    "tuple": lambda value, files: tuple(decode(item, files) for item in value["items"]),
    "bytes": _read_bytes,
    "array": _read_array,
    "path": lambda value, _: Path(value["value"]),
    "status": lambda value, _: AnalysisStatus[value["value"]],
    "text": lambda value, _: value["value"],
    "file": lambda value, _: FileReference(value["file"], value["mimetype"], value["of"]),
    "plots": lambda value, files: ElogSummaryPlots(
        value["display_name"], decode(value["figures"], files)
    ),
}


# Results and descriptions


def result_to_json(result: TaskResult, files: Attachments | None = None) -> dict[str, Any]:
    """Return a result in words of JSON, with the version of the format."""
    return {
        "version": FORMAT_VERSION,
        "task_name": result.task_name,
        "task_status": result.task_status.name,
        "summary": encode(result.summary, files),
        "payload": encode(result.payload, files),
        "impl_schemas": result.impl_schemas,
    }


def result_from_json(data: dict[str, Any], files: Attachments | None = None) -> TaskResult:
    """Return the result that `result_to_json` has written.

    Raises
    ------
    ValueError
        If a later release has written it.
    """
    _check_version(data)
    return TaskResult(
        data["task_name"],
        AnalysisStatus[data["task_status"]],
        decode(data["summary"], files),
        decode(data["payload"], files),
        data["impl_schemas"],
    )


def description_to_json(
    description: DescribedAnalysis, files: Attachments | None = None
) -> dict[str, Any]:
    """Return a description in words of JSON, with the version of the format.

    Of the environment it has the values of `RECORDED_NAMES`, and only the names of the others.
    """
    return {
        "version": FORMAT_VERSION,
        "task_result": result_to_json(description.task_result, files),
        "task_parameters": encode(description.parameters(), files),
        "task_env": recorded_environment(description.task_env),
        "poll_interval": description.poll_interval,
        "communicator_desc": list(description.communicator_desc),
    }


def description_from_json(
    data: dict[str, Any], files: Attachments | None = None
) -> DescribedAnalysis:
    """Return the description that `description_to_json` has written; parameters are a dict."""
    _check_version(data)
    return DescribedAnalysis(
        result_from_json(data["task_result"], files),
        decode(data["task_parameters"], files),
        data["task_env"],
        data["poll_interval"],
        data["communicator_desc"],
    )


def _check_version(data: dict[str, Any]) -> None:
    if data.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"version: found {data.get('version')!r}, expected {FORMAT_VERSION}; "
            "a later release of Milonga has written this"
        )
