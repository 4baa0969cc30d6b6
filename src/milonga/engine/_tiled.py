"""Runs into the catalogue of a Tiled server.

The client of Tiled comes with the extra ``tiled`` and is loaded by the first use: it takes seconds.
"""

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

__all__ = ["TiledSink", "tiled_sink"]


def tiled_sink(url: str) -> Callable[[], "TiledSink"]:
    """Return what makes the sink for a URL, once it is clear that it can be made.

    Raises
    ------
    ValueError
        If that is no URL of a server.
    ModuleNotFoundError
        If the client of Tiled is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"found {url!r}; expected the URL of a Tiled server, http:// or https://")
    for module in ("tiled", "pyarrow"):
        if find_spec(module) is None:
            raise ModuleNotFoundError(
                f"found no module {module}; expected Milonga to be installed with its extra 'tiled'"
            )
    return partial(TiledSink, url)


class TiledSink:
    """Writes runs to a Tiled server, by bluesky's own writer.

    That writer makes the run's container first and adds the stop document last, when all data has
    been written. So a container with a stop document is a run that is there in whole, and is left
    alone; one without is from an attempt that was cut off, and is deleted and written anew, as its
    writer keeps rows back and nobody can tell which have arrived. In the catalogue each run is
    then there once, with its documents in order, wherever the attempt before was cut off.

    Parameters
    ----------
    url : str
        URL of the server, or of a container in it, under which runs are put.
    api_key : str, optional
        Key with the right to write there; that in the environment variable TILED_API_KEY if absent.
    """

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self._url = url
        self._api_key = api_key
        self._client: Any = None
        self._constructors = import_module("tiled.client.constructors")
        self._writer = import_module("bluesky.callbacks.tiled_writer").TiledWriter

    def deliver(self, uid: str, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Write a run, unless it is there."""
        try:
            client = self._connected()
            if not _is_there(client, uid):
                write = self._writer(client)
                for name, document in documents:
                    write(name, document)
        except Exception:
            self.close()  # the server may be another one when it is back
            raise

    def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.context.http_client.close()

    def _connected(self) -> Any:
        if self._client is None:
            context, path = self._constructors.Context.from_any_uri(
                self._url, api_key=self._api_key
            )
            if not context.authenticated and context.server_info.authentication.required:
                # the client would ask for a password, on the terminal of a device server
                context.http_client.close()
                raise PermissionError(
                    f"{self._url}: found no key; expected one in the environment as TILED_API_KEY"
                )
            self._client = self._constructors.from_context(
                context, node_path_parts=path, remember_me=False
            )
        return self._client


def _is_there(client: Any, uid: str) -> bool:
    """Return whether the catalogue has the run in whole; a part of it is deleted."""
    if uid not in client:
        return False
    run = client[uid]
    if "stop" in run.metadata:
        return True
    run.delete(recursive=True, external_only=False)
    return False
