"""The configuration as the rest of the program gets it: frozen, whole, every text turned into a value.

Times are seconds, sizes octets, files absolute or relative to the working directory as the configuration file's own path was.
No key is in it, only the names of the files that hold them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ipsec_dp.config.packets import DEFAULT_PACKETS, Packets
from ipsec_dp.config.value_types import SOCKET_BUFFER
from ipsec_dp.ipsec.rules import Rule
from ipsec_dp.ipsec.selectors import ANY_IPV4, ANY_IPV6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.errors import Finding
    from ipsec_dp.ike.peer import Encapsulation, LivenessAction, Mode, Start, Version
    from ipsec_dp.ike.post_quantum import Demand
    from ipsec_dp.ike.ppk import PpkUse
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ipsec.addresses import Address, Interface, Network
    from ipsec_dp.ipsec.rules import Action
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.ipsec.suites import Suite

MonitorAction = Literal["wait-recover", "fail-over"]
Revocation = Literal["off", "if-present", "strict"]
Unique = Literal["replace", "keep", "never"]
IkePort = Literal[500, 4500]
LogFormat = Literal["text", "json", "journald"]
LogLevel = Literal["debug", "info", "warning", "error"]
NatFlowAction = Literal["tell", "delete", "ignore"]

ROUTE_METRIC = 50  # of what tunnels route by themselves (`routes`), and of a [[route]] that says none

CONTROL_DIRECTORY = Path("/run/ipsec-dp")
STATE_DIRECTORY = Path("/var/lib/ipsec-dp")


def control_socket(gateway: str) -> Path:
    """Where the gateway of this name listens unless told otherwise."""
    return CONTROL_DIRECTORY / f"{gateway}.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppk:
    """A post-quantum preshared key. `id`: as written."""

    id: str
    file: Path = field(compare=False)  # another one with the same PPK changes nothing
    material: bytes = field(default=b"", repr=False)  # fingerprint of what the file holds


@dataclass(frozen=True, slots=True, kw_only=True)
class PskAuth:
    """Both sides prove that they know one secret. Identities: None stands for the address of that side."""

    local_id: str | None
    remote_id: str | None
    psk_file: Path
    unique: Unique = "replace"
    ppks: tuple[Ppk, ...] = ()  # the first is that of RFC 8784
    ppk: PpkUse = "required"
    octets: int = field(default=0, compare=False)  # of the secret
    material: bytes = field(default=b"", repr=False)  # fingerprint of what the file holds


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuth:
    """Both sides sign; the peer's certificate chains up to one in `ca`."""

    local_id: str | None
    remote_id: str | None
    certificate: Path
    private_key: Path
    ca: tuple[Path, ...]
    crl: tuple[Path, ...]
    revocation: Revocation
    unique: Unique = "replace"
    ppks: tuple[Ppk, ...] = ()
    ppk: PpkUse = "required"
    material: bytes = field(default=b"", repr=False)  # fingerprint of certificate and key
    ca_material: bytes = field(default=b"", repr=False)  # of the authorities
    crl_material: bytes = field(default=b"", repr=False)  # of the CRLs


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    interval_s: int  # 0: never ask
    retries: int
    action: LivenessAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Ike:
    """`proposals` in the form of the wire, numbered, with no SPI. `version` and `mode` in both roles.

    `ikev1_proposals`: those of a tunnel of IKEv2 that may fall to IKEv1; empty: it may not.
    """

    proposals: tuple[Proposal, ...]
    lifetime_s: int
    liveness: Liveness
    rekey_after_s: int = 0  # 0: by the margins of `ike.lifetimes`
    reauth_after_s: int = 0  # 0: never
    port: IkePort = 500
    fragment_size: int = 1280  # octets of IP datagram
    version: Version = 2
    mode: Mode = "main"
    ikev1_proposals: tuple[Proposal, ...] = ()
    post_quantum: Demand = "preferred"

    @property
    def prefers_ikev2(self) -> bool:
        """Whether the tunnel may fall to IKEv1."""
        return bool(self.ikev1_proposals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Esp:
    """`proposals`, `ikev1_proposals` as in `Ike`. Limits are those of each CHILD_SA; 0: no limit of this kind."""

    proposals: tuple[Proposal, ...]
    lifetime_s: int
    life_octets: int
    life_packets: int
    idle_timeout_s: int
    replay_window: int  # packets
    rekey_after_s: int = 0  # as in `Ike`
    ikev1_proposals: tuple[Proposal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualSa:
    """A pair of SAs whose keys lie in files; see `files.load_manual_keys`."""

    suite: Suite
    spi_in: int
    spi_out: int
    key_in_file: Path
    key_out_file: Path
    material: bytes = field(default=b"", repr=False)  # fingerprint of both keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Probes through a tunnel. `source` None: an address of ours, found when it starts."""

    target: Address
    source: Address | None
    interval_s: int
    threshold: int
    action: MonitorAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """One peer. Exactly one of `auth` and `manual` is set; `esp.proposals` mean nothing under `manual`.

    `remotes` are tried in turn, DNS names as text; empty: any peer may come (`remote = "any"`). `proxy_ids` are as written; empty:
    none was. `routes` are the prefixes to route into the interface, "auto" already carried out.
    """

    name: str
    local: Address | None
    remotes: tuple[Address | str, ...]
    interface: str
    addresses: tuple[Interface, ...]
    start: Start
    encapsulation: Encapsulation
    routes: tuple[Network, ...]
    legacy: bool
    proxy_ids: tuple[SelectorPair, ...]
    auth: PskAuth | CertificateAuth | None
    ike: Ike
    esp: Esp
    manual: ManualSa | None
    monitor: Monitor | None = None
    packets: Packets = DEFAULT_PACKETS
    written: bytes = field(default=b"", repr=False, compare=False)  # digest of the table as written; see `difference`

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names in `remotes`: they say whom to call, and the identity alone who may call."""
        return tuple(remote for remote in self.remotes if isinstance(remote, str)) if str in map(type, self.remotes) else ()

    @property
    def anywhere(self) -> bool:
        """Whether the peer may call from any address."""
        return not self.remotes or bool(self.names)

    @property
    def selectors(self) -> tuple[SelectorPair, ...]:
        """What the tunnel protects: its proxy IDs, or everything of both IP versions when it has none."""
        return self.proxy_ids or (ANY_IPV4, ANY_IPV6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One [[policy]]; `selectors` are two where neither prefix was given, one for each IP version."""

    action: Action
    tunnel: str | None
    selectors: tuple[SelectorPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    prefix: Network
    tunnel: str
    metric: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """`interfaces`: names, or beginnings of names and "*"; none of them is in two zones."""

    name: str
    interfaces: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneRule:
    """One [[zone_rule]]. In its selectors local stands for source and remote for destination; two where no prefix was given."""

    from_zone: str
    to_zone: str
    selectors: tuple[SelectorPair, ...]
    allow: bool
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsListen:
    """Where `/metrics` is served."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOutput:
    """How the log is written, and from which level on."""

    form: LogFormat = "text"
    level: LogLevel = "info"


DEFAULT_LOG = LogOutput()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One gateway. Names of tunnels are unique; policies and routes name tunnels that exist."""

    path: Path
    name: str
    workers: int
    pin: bool | tuple[int, ...]
    keep_closed: bool
    strict: bool  # routes of others do not narrow the guard
    offloads: frozenset[str]  # names of those that may be used
    tunnels: tuple[Tunnel, ...]
    policies: tuple[Policy, ...]
    routes: tuple[Route, ...]
    zones: tuple[Zone, ...] = ()
    zone_rules: tuple[ZoneRule, ...] = ()
    nat_flows: NatFlowAction = "tell"
    control_group: str | None = None  # whose members may read
    keylog: Path | None = None  # where keys are written
    metrics: MetricsListen | None = None
    log: LogOutput = DEFAULT_LOG
    socket_buffer: int = SOCKET_BUFFER  # octets of each outer socket's receive buffer, and of its send buffer
    warnings: tuple[Finding, ...] = ()
    text: str = field(default="", repr=False, compare=False)  # of the file, as it was read
    _by_name: dict[str, Tunnel] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {tunnel.name: tunnel for tunnel in self.tunnels})

    @property
    def control_path(self) -> Path:
        return control_socket(self.name)

    def tunnel(self, name: str) -> Tunnel:
        """The tunnel of this name. Raises KeyError."""
        return self._by_name[name]

    def has_tunnel(self, name: str) -> bool:
        return name in self._by_name

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The policy database in the order of decision: [[policy]] as written, then every tunnel's selectors."""
        return rules_of(self.policies, self.tunnels)


def rules_of(policies: tuple[Policy, ...], tunnels: tuple[Tunnel, ...]) -> tuple[Rule, ...]:
    """The ordered rules of these policies and tunnels; a protect policy belongs to its tunnel's interface, others to all."""
    return tuple(each_rule(policies, tunnels))


def each_rule(policies: tuple[Policy, ...], tunnels: tuple[Tunnel, ...]) -> Iterator[Rule]:
    """`rules_of`, one by one."""
    interfaces = {tunnel.name: tunnel.interface for tunnel in tunnels}
    for index, policy in enumerate(policies):
        interface = None if policy.tunnel is None else interfaces.get(policy.tunnel)
        yield from (Rule(selector, policy.action, interface, policy.tunnel, policy=index) for selector in policy.selectors)
    for tunnel in tunnels:
        for index, selector in enumerate(tunnel.selectors):
            proxy_id = index if tunnel.proxy_ids else None
            yield Rule(selector, "protect", tunnel.interface, tunnel.name, proxy_id=proxy_id)
