"""Helm, and the chart rendered by it."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import yaml

from .chart_data import CHART, Render


@pytest.fixture(scope="session")
def helm() -> ModuleType:
    """Helm, as a library."""
    return pytest.importorskip("helm_python", reason="needs the package helm-python-sdk")


@pytest.fixture(scope="session")
def render(helm: ModuleType) -> Render:
    """Return a function that gives the resources of a release with certain values."""
    chart = helm.Chart.load(str(CHART))

    def rendered(values: Mapping[str, Any], name: str = "rel") -> list[dict[str, Any]]:
        texts: dict[str, str] = chart.render(name=name, namespace="site", values=dict(values))
        manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
        return [document for text in manifests for document in yaml.safe_load_all(text) if document]

    return rendered
