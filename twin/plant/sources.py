"""Where a plant's readings come from, and how we and a source prove who we are.

Secrets (passwords, keys) are never part of a plant file. Nothing here connects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from twin.plant.values import (
    Address,
    Column,
    GivenNodeText,
    HistoryDays,
    Moment,
    Patience,
    Positive,
    PublishPeriod,
    SourceName,
    TagName,
)

_STRICT = ConfigDict(extra="forbid")

#: What a plant's main OPC UA source is called where its file does not say.
MAIN = "opcua"


@dataclass(frozen=True, config=_STRICT)
class Security:
    """What an OPC UA connection must have; never less, whatever the server offers.

    Policy "None" is for a server on this machine only. `login`: with what we say who we are,
    beside the certificate of our own that every policy but "None" needs.
    """

    policy: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "None"] = (
        "Basic256Sha256"
    )
    mode: Literal["SignAndEncrypt", "Sign"] = "SignAndEncrypt"
    login: Literal["anonymous", "password", "certificate"] = "anonymous"

    @property
    def is_none(self) -> bool:
        """Whether nothing protects the connection."""
        return self.policy == "None"


@dataclass(frozen=True, config=_STRICT)
class Advisory:
    """Nodes in which the plant takes advice without obeying it: who reads them is its own affair.

    `value_nodes`: MV -> node. `valid_until_node` holds seconds since 1970 UTC. `id_node` changes
    last, so that a reader who waits for it finds the other nodes whole.
    """

    id_node: GivenNodeText
    value_nodes: Mapping[TagName, GivenNodeText]
    valid_until_node: GivenNodeText
    heartbeat_node: GivenNodeText | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """All of them, in the order in which advice is shown."""
        first = (self.heartbeat_node,) if self.heartbeat_node else ()
        return (*first, *self.value_nodes.values(), self.valid_until_node, self.id_node)


@dataclass(frozen=True, config=_STRICT)
class OpcUaSource:
    """An OPC UA server. A tag's node without a namespace of its own is one of `namespace`.

    Only the plant's main source is written to: heartbeat, stop, speed and advisory nodes of
    others have no meaning.
    """

    endpoint: Address
    namespace: GivenNodeText
    kind: Literal["opcua"] = "opcua"
    name: SourceName = MAIN
    security: Security = Security()
    heartbeat_node: GivenNodeText | None = None
    heartbeat_timeout_s: Patience = 600.0
    stop_node: GivenNodeText | None = None
    speed_node: GivenNodeText | None = None
    advisory: Advisory | None = None
    publishing_interval_ms: PublishPeriod = 250.0
    history_days: HistoryDays = 2.0

    @property
    def address(self) -> str:
        """Where it is."""
        return self.endpoint

    @property
    def written_nodes(self) -> tuple[str, ...]:
        """The PLC's own nodes that are ours to write."""
        advisory = self.advisory.nodes if self.advisory is not None else ()
        return (*(each for each in (self.heartbeat_node, self.stop_node) if each), *advisory)


@dataclass(frozen=True, config=_STRICT)
class MqttSource:
    """An MQTT broker. A tag's node is its TOPIC, or TOPIC#KEY for a value inside a JSON object."""

    kind: Literal["mqtt"]
    name: SourceName
    broker: Address
    login: Literal["anonymous", "password"] = "anonymous"
    qos: Literal[0, 1, 2] = 1
    client_id: Annotated[str, Field(max_length=128)] = ""

    @property
    def address(self) -> str:
        """Where it is."""
        return self.broker


Source = Annotated[OpcUaSource | MqttSource, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class FileSource:
    """How recorded tables are read: tags' `column` names or 1-based numbers say what is where.

    Without `time_column`, rows are `step_s` apart from `start`. A numeric time column counts in
    `time_unit` from `start` (from 1970 UTC without one); text times without a zone are in the
    plant's. `breaks` are the 1-based first rows of further experiments, counted without the
    header: nothing continues across. They start `break_gap_s` after the experiment before, unless
    the time column says when.
    """

    time_column: Column | None = None
    time_unit: Literal["iso8601", "s", "ms", "min", "h"] = "iso8601"
    start: Moment | None = None
    step_s: Annotated[Positive, Field(le=31 * 86_400)] | None = None
    breaks: tuple[Annotated[int, Field(ge=2, le=10**12, strict=True)], ...] = ()
    separator: Literal["comma", "semicolon", "tab", "whitespace"] = "comma"
    decimal: Literal["point", "comma"] = "point"
    has_header: bool = True
    break_gap_s: Annotated[Positive, Field(le=366 * 86_400)] = 86_400.0
