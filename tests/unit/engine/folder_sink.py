"""A sink that is a folder, and a process that delivers to it and can be killed in mid-delivery."""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from milonga.engine import Forwarder, Outbox


class FolderSink:
    """Keeps each run in a file, slowly; half a run is a file with another name.

    Parameters
    ----------
    place : path
        The folder.
    pause_after : int, optional
        Say so and wait after as many documents, so that the process can be killed there.
    """

    def __init__(self, place: Path, pause_after: int = -1) -> None:
        self._place = place
        self._left = pause_after
        place.mkdir(parents=True, exist_ok=True)

    def deliver(self, uid: str, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Keep a run, unless it is there; what is left of an earlier attempt is overwritten."""
        whole, part = self._place / f"{uid}.jsonl", self._place / f"{uid}.part"
        if whole.exists():
            return
        with part.open("w") as file:
            for document in documents:
                self._maybe_pause()
                file.write(json.dumps(document) + "\n")
                file.flush()
        part.rename(whole)
        self._maybe_pause()

    def _maybe_pause(self) -> None:
        if self._left == 0:
            print("after a document", flush=True)  # noqa: T201 - to the test
            time.sleep(600)  # until the process is killed
        self._left -= 1

    def close(self) -> None:
        """Nothing is open."""

    @property
    def uids(self) -> list[str]:
        """Which runs are there in whole."""
        return sorted(path.stem for path in self._place.glob("*.jsonl"))


def main(documents: str, place: str, pause_after: str) -> None:
    """Deliver everything, then end."""
    outbox = Outbox(Path(documents), "a")
    forwarder = Forwarder(outbox, lambda: FolderSink(Path(place), int(pause_after)))
    while outbox.statistics().runs:
        time.sleep(0.01)
    forwarder.close(10.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
