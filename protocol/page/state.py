"""All that the page shows, as values: what `/api/v1/state` returns, and what its schema is made of.

Times are seconds since 1970. Texts are harmless lines (`told`); None and empty lists mean that it is not known here.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

POINTS_MAX = 2000  # of one map: 100 kB of JSON, and more dots would lie on each other
PANELS_MAX = 3
CLASSES_MAX = 10  # with a colour and a shape of their own
CURVE_POINTS_MAX = 200
NETWORKS_MAX = 12  # with their curves
MAP_BYTES_MAX = 2 * 1024 * 1024

Text = Annotated[str, Meta(max_length=1100)]
Count = Annotated[int, Meta(ge=0)]
ClassNumber = Annotated[int, Meta(ge=0, le=CLASSES_MAX)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of assignments unless the name says networks."""

    digest: Text
    name: Text
    state: Text  # running, paused, cancelled, publishing, complete
    assignments: Count
    pending: int  # waiting or leased
    committed: Count
    checking: Count
    kept: Count = 0
    admitted: Count
    rejected: Count  # results: each assignment may have several, and is free again
    retracted: Count = 0
    networks: Count
    networks_admitted: Count
    networks_published: Count
    networks_by_class: dict[str, int] = {}
    eta_seconds: float | None = None
    leased: Count | None = None  # of `pending`; None: not known here


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Name, device, version, speed and counts are its own word."""

    host: Text
    name: Text
    device: Text = ""
    version: Text = ""
    steps_per_second: float = 0.0
    networks_trained: Count = 0
    checks_done: Count = 0
    credit: int = 0
    clean_bundles: Count = 0
    faults: Count = 0
    false_accusations: Count = 0
    banned: Text = ""
    convicted: bool = False
    present: bool = False
    last_seen: float = 0.0
    seconds_ago: float = 0.0


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    host: Text
    name: Text
    credit: int  # network-segments
    clean_bundles: Count


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts whose names end in `@team`. Anybody may write that."""

    name: Text
    hosts: Count
    credit: int


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A result that was refused after it was handed in."""

    host: Text
    name: Text
    campaign: Text  # its name
    assignment: int
    outcome: Text  # void, convicted, retracted
    reason: Text
    at: float


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that were refused at the door, of one reason and host."""

    reason: Text
    host: Text
    count: Count
    detail: Text = ""
    last_at: float = 0.0


class Audits(msgspec.Struct, frozen=True, kw_only=True):
    due: Count = 0
    suspect: Count = 0
    judging: Count = 0
    passed: Count = 0
    judged: Count = 0
    vouchers: Count = 0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """One that was published lately, with its losses, one a segment."""

    id: Text
    label: Text  # its class
    seed: int
    steps: Count
    loss: float | None
    host: Text
    at: float
    training: Annotated[list[float | None], Meta(max_length=CURVE_POINTS_MAX)]
    held_out: Annotated[list[float | None], Meta(max_length=CURVE_POINTS_MAX)]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """Networks of one architecture in the plane."""

    title: Annotated[str, Meta(max_length=200)]
    networks: Count  # of this architecture in the zoo; `points` may be a sample
    explained: Share  # of the variance of what is drawn
    classes: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=CLASSES_MAX + 1)]
    points: Annotated[list[tuple[Share, Share, ClassNumber]], Meta(max_length=POINTS_MAX)]


class ZooMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `zooswarm map` writes."""

    manifest: Count  # its number
    networks: Count
    method: Annotated[str, Meta(max_length=300)]
    panels: Annotated[list[Panel], Meta(max_length=PANELS_MAX)]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The page."""

    source: Literal["coordinator", "peer"]
    title: Text
    version: Text
    organizer: Text
    time: float
    join: Text = ""  # the address for volunteers
    heard_at: float | None = None  # when the coordinator last told a peer all this; None: never
    trouble: Text = ""  # why it is older than it should be
    campaigns: list[Campaign] = []
    networks: Count = 0
    networks_by_class: dict[str, int] = {}
    hosts_known: Count = 0
    hosts_present: Count = 0
    hosts_banned: Count = 0
    hosts: list[Host] = []
    leaders: list[Leader] = []
    teams: list[Team] = []
    rejections: list[Rejection] = []
    refusals: list[Refusal] = []
    audits: Audits = Audits()
    recent: Annotated[list[Network], Meta(max_length=NETWORKS_MAX)] = []
    recent_note: Text = ""  # why there are none
    zoo_map: ZooMap | None = None
    map_note: Text = ""  # why there is none
    own: list[tuple[Text, Text]] = []  # of a peer: (label, value)


def schema() -> dict:
    """JSON schema of `State`."""
    return msgspec.json.schema(State)
