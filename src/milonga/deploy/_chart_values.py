"""What the Helm chart may be told, as pydantic models.

The chart's `values.schema.json` is made from these models, and `milonga validate --values` judges
with them, so that Helm and the command line refuse the same values.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from milonga.deploy._topology_models import TopologyFile

__all__ = ["ChartValues"]

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?$")]
Port = Annotated[int, Field(ge=1024, le=65535)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.\-]*[a-z0-9])?$")]
HostPort = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.\-]+:[0-9]{1,5}$")]
# a password in a URL would be readable by whoever may read a pod
StoreUrl = Annotated[
    str, StringConstraints(pattern=r"^(sqlite|postgresql)(\+[a-z]+)?://([^/@:]*@)?[^@]*$")
]
# Helm takes a value away by null; what is not there is null for us too
Free = dict[str, JsonValue]


def _needs(field: str, **given: Any) -> dict[str, Any]:
    """Say in JSON schema that `field` is needed as soon as another field has a certain value."""
    known = {name: {"const": value} for name, value in given.items()}
    return {"if": {"properties": known, "required": list(given)}, "then": {"required": [field]}}


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(_Values):
    """Which image a container runs."""

    repository: Annotated[str, StringConstraints(min_length=1)] | None = None
    tag: str = ""
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"  # noqa: N815
    pullSecrets: Annotated[tuple[SecretName, ...], Field(strict=False)] = ()  # noqa: N815


class Tango(_Values):
    """A Tango database that is there already."""

    host: HostPort | None = None


class Storage(_Values):
    """A volume of its own for each pod; without one, what it writes goes with the pod."""

    enabled: bool = True
    size: Quantity = "1Gi"
    className: str = ""  # noqa: N815


class Amounts(_Values):
    """How much of the node a container gets."""

    requests: dict[str, Quantity] = Field(default_factory=dict)
    limits: dict[str, Quantity] = Field(default_factory=dict)


class Database(_Values):
    """A Tango database of the release's own."""

    enabled: bool = True
    port: Port = 10000
    storage: Storage = Storage()
    resources: Amounts = Amounts()


class SecretKey(_Values):
    """One value in a secret that is there already."""

    name: SecretName
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._\-]+$")] = "url"


class Records(_Values):
    """Where the records of commands go: SQLite on each pod's volume, or one PostgreSQL for all."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {
                "properties": {"backend": {"const": "postgresql"}},
                "required": ["backend"],
                "not": {"required": ["url"]},
            },
            "then": {"required": ["existingSecret"]},
        }
    )

    backend: Literal["sqlite", "postgresql"] = "sqlite"
    url: StoreUrl | None = None
    existingSecret: SecretKey | None = None  # noqa: N815

    @model_validator(mode="after")
    def _has_a_url(self) -> Self:
        if self.backend == "postgresql" and not (self.url or self.existingSecret):
            raise ValueError("existingSecret, the secret that holds the URL of the database")
        return self


class ServerOptions(_Values):
    """What one device server has beyond, or instead of, what all have."""

    image: Image | None = None
    resources: Amounts | None = None
    env: dict[str, str] = Field(default_factory=dict)
    nodeSelector: dict[str, str] = Field(default_factory=dict)  # noqa: N815


class Health(_Values):
    """The probes' port."""

    port: Port = 8080


class Metrics(_Values):
    """Whether pods ask to be scraped."""

    enabled: bool = True


class TangoGql(_Values):
    """TangoGQL, through which web pages see the system."""

    model_config = ConfigDict(
        json_schema_extra=_needs("existingSecret", enabled=True, anonymous=False)
    )

    enabled: bool = False
    anonymous: bool = False
    port: Port = 5004
    image: Image = Image()
    existingSecret: SecretKey | None = None  # noqa: N815
    resources: Amounts = Amounts()

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        if self.enabled and not self.anonymous and self.existingSecret is None:
            raise ValueError("existingSecret, the secret that logins are signed with")
        return self


class Operator(_Values):
    """The SKA Tango operator's custom resources instead of Kubernetes' own."""

    enabled: bool = False
    clusterDomain: str = "cluster.local"  # noqa: N815


class NetworkPolicy(_Values):
    """Who may talk to the pods beside the release itself."""

    enabled: bool = True
    clients: Annotated[tuple[Free, ...], Field(strict=False)] = ()
    egress: Annotated[tuple[Free, ...], Field(strict=False)] | None = None


_A_HOST: dict[str, Any] = {"tango": {"required": ["host"]}}
_WITHOUT_DATABASE: dict[str, Any] = {
    "required": ["database"],
    "properties": {
        "database": {"properties": {"enabled": {"const": False}}, "required": ["enabled"]}
    },
}


class ChartValues(_Values):
    """All values of the chart."""

    model_config = ConfigDict(
        title="Values of the chart milonga",
        json_schema_extra={
            "allOf": [
                {"if": _WITHOUT_DATABASE, "then": {"required": ["tango"], "properties": _A_HOST}},
                {
                    "if": {"required": ["tango"], "properties": _A_HOST},
                    "then": {
                        "required": ["database"],
                        "properties": {"database": {"properties": {"enabled": {"const": False}}}},
                    },
                },
            ]
        },
    )

    topology: str | TopologyFile
    image: Image = Image()
    tango: Tango = Tango()
    database: Database = Database()
    records: Records = Records()
    storage: Storage = Storage()
    servers: dict[str, ServerOptions] = Field(default_factory=dict)
    resources: Amounts = Amounts()
    env: dict[str, str] = Field(default_factory=dict)
    health: Health = Health()
    metrics: Metrics = Metrics()
    tangogql: TangoGql = TangoGql()
    operator: Operator = Operator()
    networkPolicy: NetworkPolicy = NetworkPolicy()  # noqa: N815
    terminationGracePeriodSeconds: Annotated[int, Field(ge=1, le=3600)] = 30  # noqa: N815
    podAnnotations: dict[str, str] = Field(default_factory=dict)  # noqa: N815
    nodeSelector: dict[str, str] = Field(default_factory=dict)  # noqa: N815
    tolerations: Annotated[tuple[Free, ...], Field(strict=False)] = ()
    affinity: Free = Field(default_factory=dict)
    # Helm itself puts it into the values of every chart that is part of another
    global_: Free = Field(default_factory=dict, alias="global")

    @model_validator(mode="after")
    def _has_one_database(self) -> Self:
        if not self.database.enabled and self.tango.host is None:
            raise ValueError("tango.host, or database.enabled: true")
        if self.database.enabled and self.tango.host is not None:
            raise ValueError("either tango.host or database.enabled: true")
        return self
