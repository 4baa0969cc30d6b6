"""The containers of a rendered chart as processes of this machine.

What a cluster would do is done by hand and no more: volumes become folders, the pods' addresses and
the services' names become the loopback, and the image's entry point becomes this Python's.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milonga.deploy import Process

from .chart_data import ROOT, of_kind

LOOPBACK = "127.0.0.1"


def entry_point() -> list[str]:
    """Read what the image runs."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    return list(json.loads(re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)[-1]))


class Cluster:
    """Resources of a release, and processes of its containers.

    Parameters
    ----------
    documents : list
        What Helm rendered.
    folder : Path
        Where volumes and logs are made.
    ports : mapping
        By the name of a server, the port for its probes: here all pods share one address.
    """

    def __init__(
        self, documents: list[dict[str, Any]], folder: Path, ports: Mapping[str, int]
    ) -> None:
        self._folder = folder
        self._ports = ports
        self._maps = {
            entry["metadata"]["name"]: entry["data"] for entry in of_kind(documents, "ConfigMap")
        }
        self._services = [entry["metadata"]["name"] for entry in of_kind(documents, "Service")]
        self._sets = {
            entry["metadata"].get("annotations", {}).get("milonga/server", "database"): entry
            for entry in of_kind(documents, "StatefulSet")
        }

    @property
    def names(self) -> list[str]:
        """The servers, and ``database``."""
        return list(self._sets)

    def process(self, name: str) -> Process:
        """Make the process of a server's container, or of the database's; not started."""
        entry = self._sets[name]
        spec = entry["spec"]["template"]["spec"]
        container = spec["containers"][0]
        places = {
            mount["mountPath"]: self._volume(name, mount["name"], spec)
            for mount in container["volumeMounts"]
        }
        assert entry_point() == ["milonga"]
        arguments = [self._here(part, places) for part in container["args"]]
        kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME"}}
        environment = kept | {
            variable["name"]: self._value(name, variable, places) for variable in container["env"]
        }
        log = self._folder / f"{name}.log"
        return Process(name, [sys.executable, "-m", "milonga", *arguments], log, environment)

    def _volume(self, name: str, volume: str, spec: dict[str, Any]) -> Path:
        place = self._folder / name / volume
        place.mkdir(parents=True, exist_ok=True)
        for source in spec["volumes"]:
            if source["name"] == volume and "configMap" in source:
                for file, text in self._maps[source["configMap"]["name"]].items():
                    (place / file).write_text(text, encoding="utf-8")
        return place

    def _value(self, name: str, variable: dict[str, Any], places: Mapping[str, Path]) -> str:
        source = variable.get("valueFrom")
        if source is not None:
            assert source == {"fieldRef": {"fieldPath": "status.podIP"}}
            return LOOPBACK
        if variable["name"] == "MILONGA_HEALTH_PORT":
            return str(self._ports[name])
        value = self._here(variable["value"], places)
        for service in self._services:
            value = re.sub(rf"^{re.escape(service)}:", f"{LOOPBACK}:", value)
        return value

    @staticmethod
    def _here(text: str, places: Mapping[str, Path]) -> str:
        for mount, place in places.items():
            if text == mount or text.startswith(f"{mount}/"):
                return f"{place}{text.removeprefix(mount)}"
        return text
