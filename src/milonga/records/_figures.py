"""Figures as bytes, whichever library they come from; none of them is needed.

A figure is known by what it can do: matplotlib's has ``savefig``, those of panel and bokeh have
``save``. Those of holoviews have neither, and are drawn if holoviews is installed, as it is
where they come from.
"""

import importlib
import io
from typing import Any

from milonga.errors import FileRefused

__all__ = ["figure_bytes", "suffix_of"]

_SUFFIXES = {b"\x89PNG": ".png", b"%PDF": ".pdf", b"<svg": ".svg", b"<?xm": ".svg"}


def figure_bytes(figure: Any) -> bytes:
    """Return a figure as HTML, or as PNG if it comes from matplotlib (LU-05, D-9).

    Raises
    ------
    FileRefused
        If it is no figure that we know.
    """
    if isinstance(figure, bytes | bytearray | memoryview):
        return bytes(figure)
    if isinstance(figure, str):
        return figure.encode()
    buffer = io.BytesIO()
    if callable(getattr(figure, "savefig", None)):
        figure.savefig(buffer, format="png")
    elif type(figure).__module__.partition(".")[0] == "holoviews":
        importlib.import_module("holoviews").save(figure, buffer, fmt="html")
    elif callable(getattr(figure, "save", None)):
        return _saved(figure)
    else:
        raise FileRefused(
            f"figure: found {type(figure).__name__}, expected bytes or an object with save()"
        )
    return buffer.getvalue()


def _saved(figure: Any) -> bytes:
    """Save to memory; some libraries write text, others bytes."""
    try:
        text = io.StringIO()
        figure.save(text)
        return text.getvalue().encode()
    except TypeError:
        data = io.BytesIO()
        figure.save(data)
        return data.getvalue()


def suffix_of(data: bytes) -> str:
    """Return what the name of a file with these bytes should end with."""
    return next((end for start, end in _SUFFIXES.items() if data.startswith(start)), ".html")
