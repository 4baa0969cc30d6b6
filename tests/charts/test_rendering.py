"""What the chart makes of a topology is valid, complete, and locked down."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from milonga.deploy import Topology, chart_values

from .chart_data import CHART, SMALL, TOPOLOGIES, Render, of_kind

OPERATOR = {"operator": {"enabled": True}}
EVERYTHING = {
    "records": {"backend": "postgresql", "existingSecret": {"name": "store", "key": "url"}},
    "tangogql": {"enabled": True, "existingSecret": {"name": "gql", "key": "secret"}},
    "image": {"repository": "site/milonga", "tag": "1.2", "pullSecrets": ["registry"]},
    "env": {"MILONGA_LOGS": "json"},
    "nodeSelector": {"site": "telescope"},
    "podAnnotations": {"owner": "operations"},
    "tolerations": [{"key": "telescope", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "networkPolicy": {"clients": [{"namespaceSelector": {}}], "egress": []},
}
ELSEWHERE = {
    "database": {"enabled": False},
    "tango": {"host": "databaseds:10000"},
    "storage": {"enabled": False},
}
VARIANTS = {"plain": {}, "everything": EVERYTHING, "elsewhere": ELSEWHERE, "operator": OPERATOR}

kubernetes = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")


def pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Collect the pod specifications of all workloads."""
    return [
        document["spec"]["template"]["spec"]
        for document in documents
        if document["kind"] in {"StatefulSet", "Deployment", "Job"}
    ]


def as_numbers(topology: Topology) -> list[tuple[object, ...]]:
    """List devices with their properties; Helm writes 50.0 as 50."""
    return [
        (
            *(entry.device, entry.class_name, entry.server),
            {
                name: [yaml.safe_load(text) for text in texts]
                for name, texts in entry.properties.items()
            },
        )
        for entry in topology.devices
    ]


def server_container(documents: list[dict[str, Any]], server: str) -> dict[str, Any]:
    """Find the container of a server by its name in the topology."""
    for document in of_kind(documents, "StatefulSet"):
        if document["metadata"].get("annotations", {}).get("milonga/server") == server:
            return dict(document["spec"]["template"]["spec"]["containers"][0])
    raise AssertionError(f"no server {server}")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_what_is_rendered_is_valid(render: Render, name: str, variant: str) -> None:
    """By Kubernetes' own schemas, and by what is known of the operator's resources."""
    own = json.loads((Path(__file__).parent / "operator_resources.schema.json").read_text())

    documents = render({"topology": TOPOLOGIES[name], **VARIANTS[variant]})

    for document in documents:
        if document["apiVersion"].startswith("tango"):
            jsonschema.validate(document, own)
        else:
            for version in ("1.27", "1.31"):
                kubernetes.validate(document, version, strict=True)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_finds_nothing_to_complain_about(helm: ModuleType, variant: str) -> None:
    """The icon that it would like is for shops."""
    report = helm.lint(
        str(CHART),
        {"topology": SMALL, **VARIANTS[variant]},
        strict=True,
        kube_version="v1.31.0",
    )

    told = [message["error"] for message in report["messages"]]
    assert report["errors"] == []
    assert told == ["icon is recommended"]


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("as_content", [False, True], ids=["text", "content"])
def test_every_server_of_the_topology_is_started(
    render: Render, name: str, as_content: bool
) -> None:
    """The same names as `milonga up` starts, each once, whether given as text or as content."""
    values: dict[str, Any] = {"topology": TOPOLOGIES[name]}
    if as_content:
        values = json.loads(chart_values(TOPOLOGIES[name]))

    documents = render(values)

    started = [
        container["args"][1]
        for pod in pods(of_kind(documents, "StatefulSet"))
        for container in pod["containers"]
        if container["args"][0] == "serve"
    ]
    expected = [entry.name for entry in Topology.from_text(TOPOLOGIES[name]).servers]
    assert sorted(started) == sorted(expected)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_operator_is_told_the_same_devices(render: Render, name: str) -> None:
    """By server, class and name; what else they need, each server writes itself."""
    topology = Topology.from_text(TOPOLOGIES[name])
    full_names = {entry.name: entry.full_name for entry in topology.servers}

    documents = render({"topology": TOPOLOGIES[name], **OPERATOR})

    told = set()
    for document in of_kind(documents, "DeviceServer"):
        spec = document["spec"]
        config = json.loads(spec["config"])
        assert list(config["servers"]) == [spec["dsname"]]
        assert list(config["servers"][spec["dsname"]]) == [spec["args"]]
        for class_name, devices in config["servers"][spec["dsname"]][spec["args"]].items():
            told |= {(f"{spec['dsname']}/{spec['args']}", class_name, name) for name in devices}
    assert told == {
        (full_names[entry.server], entry.class_name, entry.device) for entry in topology.devices
    }
    assert not of_kind(documents, "StatefulSet")


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_pods_read_the_file_that_the_laptop_reads(render: Render, name: str) -> None:
    """Byte for byte if it is given as text, and with the same meaning if as content."""
    as_text = of_kind(render({"topology": TOPOLOGIES[name]}), "ConfigMap")
    as_content = of_kind(render(json.loads(chart_values(TOPOLOGIES[name]))), "ConfigMap")

    assert {entry["data"]["topology.yaml"] for entry in as_text} == {TOPOLOGIES[name]}
    for entry in as_content:
        read = Topology.from_text(entry["data"]["topology.yaml"])
        assert as_numbers(read) == as_numbers(Topology.from_text(TOPOLOGIES[name]))


def test_names_that_kubernetes_does_not_take_stay_apart(render: Render) -> None:
    """Two servers whose names become alike are still two."""
    sets = of_kind(
        render({"topology": SMALL}, name="a-release-with-a-name-of-its-own"), "StatefulSet"
    )

    names = [entry["metadata"]["name"] for entry in sets]
    assert len(set(names)) == 5
    assert all(len(name) <= 52 for name in names)  # a revision's checksum goes behind it


@pytest.mark.parametrize("variant", ["plain", "everything", "elsewhere"])
def test_every_container_is_locked_down(render: Render, variant: str) -> None:
    """As Kubernetes' restricted profile has it, with limits, and without the cluster's token."""
    for pod in pods(render({"topology": SMALL, **VARIANTS[variant]})):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounted  # noqa: S108 - a path in the container


def test_the_store_is_named_by_a_secret(render: Render) -> None:
    """The URL with its password is nowhere in what is rendered."""
    container = server_container(render({"topology": SMALL, **EVERYTHING}), "central")

    variables = {entry["name"]: entry for entry in container["env"]}
    assert variables["MILONGA_RECORDS"]["valueFrom"] == {
        "secretKeyRef": {"name": "store", "key": "url"}
    }
    assert variables["MILONGA_LOGS"]["value"] == "json"


def test_without_another_store_records_go_to_the_pods_volume(render: Render) -> None:
    """The volume outlives the pod."""
    documents = render({"topology": SMALL})

    container = server_container(documents, "central")
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    mounts = {entry["name"]: entry["mountPath"] for entry in container["volumeMounts"]}
    claims = of_kind(documents, "StatefulSet")[1]["spec"]["volumeClaimTemplates"]
    assert "MILONGA_RECORDS" not in variables
    assert variables["MILONGA_DATA"] == mounts["data"] == "/var/lib/milonga"
    assert [claim["metadata"]["name"] for claim in claims] == ["data"]


def test_a_database_that_is_there_is_used(render: Render) -> None:
    """None of our own is started then."""
    documents = render({"topology": SMALL, **ELSEWHERE})

    container = server_container(documents, "central")
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["TANGO_HOST"] == "databaseds:10000"
    assert not [entry for entry in documents if "tangodb" in entry["metadata"]["name"]]


def test_probes_look_at_the_port_that_the_server_is_told(render: Render) -> None:
    """And Prometheus looks there, too."""
    documents = render({"topology": SMALL, "health": {"port": 9090}})

    container = server_container(documents, "central")
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["MILONGA_HEALTH_PORT"] == "9090"
    assert container["ports"] == [{"name": "health", "containerPort": 9090}]
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "health"}
    annotations = of_kind(documents, "StatefulSet")[1]["spec"]["template"]["metadata"][
        "annotations"
    ]
    assert annotations["prometheus.io/port"] == "9090"


def test_one_server_may_have_what_the_others_have_not(render: Render) -> None:
    """Its image, its memory, its variables."""
    own = {
        "image": {"repository": "site-leaves", "tag": "2.1"},
        "resources": {"limits": {"memory": "4Gi"}},
        "env": {"SITE": "north"},
    }
    documents = render({"topology": SMALL, "servers": {"leaves-a": own}})

    special = server_container(documents, "leaves-a")
    usual = server_container(documents, "leaves.a")
    assert (special["image"], usual["image"]) == ("site-leaves:2.1", "milonga:0.1.0")
    assert special["resources"] == own["resources"] != usual["resources"]
    assert {"name": "SITE", "value": "north"} in special["env"]
    assert {"name": "SITE", "value": "north"} not in usual["env"]


def test_an_image_may_be_named_by_its_digest(render: Render) -> None:
    """Which wins over a tag."""
    digest = f"sha256:{'0' * 64}"

    documents = render({"topology": SMALL, "image": {"digest": digest, "tag": "1"}})

    assert {c["image"] for pod in pods(documents) for c in pod["containers"]} == {
        f"milonga@{digest}"
    }


def test_the_chart_is_of_this_release(helm: ModuleType) -> None:
    """Its version says which image it starts."""
    import milonga  # noqa: PLC0415

    assert helm.Chart.load(str(CHART)).metadata["appVersion"] == milonga.__version__
