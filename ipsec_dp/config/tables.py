"""The TOML tables exactly as a person writes them: names, wire types, defaults, and what an editor shows.

The JSON schema is generated from here (`python -m ipsec_dp.config.schema`). Texts that mean something (times, prefixes, proposals)
stay text at this level; `resolve` turns them into values.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ipsec_dp.config.value_types import (
    SOCKET_BUFFER,
    Address,
    Addresses,
    Count,
    Cpu,
    Duration,
    EspKeywords,
    FileName,
    IcmpCode,
    IcmpType,
    IkeKeywords,
    KeyFile,
    Name,
    Offloads,
    Ports,
    PpkId,
    Prefix,
    Protocol,
    RekeyAfter,
    Remote,
    Size,
    SocketBuffer,
    Spi,
    Suite,
)
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every table has in common: unknown keys are refused.

    A key without a default is required. Its type holds None too, which TOML cannot write: it stands for one that is missing or
    unreadable and was reported, so that the rest of the table can be looked at all the same.
    """


class Gateway(Table, frozen=True, kw_only=True):
    """This gateway itself."""

    name: Annotated[Name, Meta(description="default: the host's name; also names the control socket")] | None = None
    workers: Annotated[
        int,
        Meta(
            description="workers that share the tunnels, each with one thread, or two while both directions are busy",
            extra_json_schema={"minimum": 1, "maximum": 64},
        ),
    ] = 1
    pin: Annotated[
        bool | tuple[Cpu, ...], Meta(description="CPUs that the workers' threads are bound to, by turns; true: all there are")
    ] = False
    keep_closed: Annotated[bool, Meta(description="keep the guard when stopped")] = False
    strict: Annotated[
        bool,
        Meta(description="routes of others, and addresses that have an end, do not narrow what 0.0.0.0/0 protects"),
    ] = False
    offloads: Offloads = "all"
    socket_buffer: SocketBuffer = SOCKET_BUFFER
    nat_flows: Annotated[
        Literal["tell", "delete", "ignore"],
        Meta(
            description="connections that NAT gave another source before they were routed into a tunnel: tell of them, delete them"
        ),
    ] = "tell"
    control_group: (
        Annotated[str, Meta(description="a group of this host whose members may read `status`", examples=["ipsec"])] | None
    ) = None
    keylog_file: (
        Annotated[str, Meta(description="a directory for the keys of all SAs, as Wireshark's tables; to search for faults")] | None
    ) = None


class Selectors(Table, frozen=True, kw_only=True):
    """One rule of what traffic is meant; what is left out is any."""

    local: Addresses | None = None
    remote: Addresses | None = None
    protocol: Protocol = "any"
    local_ports: Ports = "any"
    remote_ports: Ports = "any"
    icmp_type: IcmpType = "any"
    icmp_code: IcmpCode = "any"


class ProxyId(Selectors, frozen=True, kw_only=True):
    """Traffic a tunnel protects, and what it negotiates with its peer."""


class OtherPpk(Table, frozen=True, kw_only=True):
    """A further PPK of the same peer (RFC 8784, RFC 9867)."""

    ppk_id: PpkId | None
    ppk_file: FileName | None


class Auth(Table, frozen=True, kw_only=True):
    """Who we are and who the peer must be. Either psk_file, or certificate with private_key and ca."""

    local_id: Annotated[str, Meta(description='address, FQDN, e-mail, DN, or "keyid:…"; default: the local address')] | None = None
    remote_id: Annotated[str, Meta(description="the same for the peer; default: the remote address")] | None = None
    psk_file: FileName | None = None
    certificate: FileName | None = None
    private_key: FileName | None = None
    ca: tuple[FileName, ...] = ()
    crl: tuple[FileName, ...] = ()
    revocation: Literal["off", "if-present", "strict"] = "if-present"
    unique: Annotated[
        Literal["replace", "keep", "never"],
        Meta(
            description="a further IKE SA of the same two identities replaces the one that is there; is refused while that lives "
            "(keep); stands beside it (never)"
        ),
    ] = "replace"
    ppk_id: PpkId | None = None
    ppk_file: FileName | None = None
    ppk: (
        Annotated[
            Literal["required", "if-offered"],
            Meta(description="whether there is an IKE SA without a PPK that both have; default: required, where there is one"),
        ]
        | None
    ) = None
    other_ppk: tuple[OtherPpk, ...] = ()


class Liveness(Table, frozen=True, kw_only=True):
    """Is the peer still there (RFC 7296 §2.4)? Authenticated ESP counts as an answer."""

    interval: Annotated[Duration, Meta(description="silence before asking; 0s: never ask")] = "10s"
    retries: Annotated[int, Meta(description="questions without an answer", extra_json_schema={"minimum": 1, "maximum": 100})] = 5
    action: Literal["restart", "trap", "clear"] = "restart"


class Ike(Table, frozen=True, kw_only=True):
    """Phase 1."""

    version: Annotated[
        Literal["1", "2", "2-preferred"],
        Meta(
            description="of IKE, in both roles; 1: main and quick mode, for peers that speak nothing newer; 2-preferred: IKEv1 "
            "where the peer does not answer IKEv2, until it has authenticated with that"
        ),
    ] = "2"
    mode: Annotated[
        Literal["main", "aggressive"],
        Meta(
            description="of phase 1 in IKEv1, in both roles; aggressive: identities in clear, a shared key can be guessed offline"
        ),
    ] = "main"
    post_quantum: Annotated[
        Literal["preferred", "required"],
        Meta(description="required: no IKE_AUTH before ML-KEM, or a PPK by RFC 9867, is in the keys; preferred: a warning"),
    ] = "preferred"
    proposals: tuple[IkeKeywords, ...] = DEFAULT_IKE
    lifetime: Duration = "8h"
    rekey_after: RekeyAfter = "0s"
    reauth_after: Annotated[
        Duration, Meta(description="both sides prove who they are anew, without a break, after this time; 0s: never")
    ] = "0s"
    port: Annotated[
        int,
        Meta(description="UDP port that we call: 500, or 4500 from the first message", extra_json_schema={"enum": [500, 4500]}),
    ] = 500
    fragment_size: Annotated[
        int,
        Meta(
            description="octets of an IP datagram beyond which IKE messages go in fragments (RFC 7383)",
            examples=[1280],
            extra_json_schema={"minimum": 576, "maximum": 65535},
        ),
    ] = 1280
    liveness: Liveness = Liveness()


class Esp(Table, frozen=True, kw_only=True):
    """Phase 2."""

    proposals: tuple[EspKeywords, ...] = DEFAULT_ESP
    lifetime: Duration = "1h"
    rekey_after: RekeyAfter = "0s"
    life_octets: Size = "500GB"
    life_packets: Count = 0
    idle_timeout: Annotated[Duration, Meta(description="a CHILD_SA without packets for so long is deleted; 0s: never")] = "0s"
    replay_window: Annotated[
        int,
        Meta(
            description="packets: a power of two, 64 to 8192",
            examples=[1024],
            extra_json_schema={"enum": [64, 128, 256, 512, 1024, 2048, 4096, 8192]},
        ),
    ] = 1024


class ManualUnsafe(Table, frozen=True, kw_only=True):
    """Keys from files instead of a negotiation, for rigs and benchmarks: nothing ever replaces them."""

    suite: Suite | None
    spi_in: Spi | None
    spi_out: Spi | None
    key_in_file: KeyFile | None
    key_out_file: KeyFile | None


class Monitor(Table, frozen=True, kw_only=True):
    """Echo requests through the tunnel: does it carry traffic?"""

    target: Annotated[Address, Meta(description="a host beyond the tunnel, inside the remote selectors")] | None
    source: (
        Annotated[Address, Meta(description="default: the interface's own address, else one of ours inside the local selectors")]
        | None
    ) = None
    interval: Annotated[Duration, Meta(description="between two questions; one without an answer by then is lost")] = "3s"
    threshold: Annotated[
        int,
        Meta(description="lost in a row: down; answered in a row: up again", extra_json_schema={"minimum": 1, "maximum": 100}),
    ] = 5
    action: Annotated[
        Literal["wait-recover", "fail-over"],
        Meta(description="while down: keep the routes, or withdraw them so that another tunnel's take over"),
    ] = "wait-recover"


class Tunnel(Table, frozen=True, kw_only=True):
    """One peer and the traffic between us."""

    name: Name | None
    remote: Remote | None
    local: Annotated[Address, Meta(description="default: follows the route to remote")] | None = None
    interface: Annotated[
        str,
        Meta(
            description="TUN interface, 15 characters at the most; several tunnels may share one",
            examples=["ipsec0"],
            extra_json_schema={"pattern": "^[A-Za-z0-9_.-]{1,15}$"},
        ),
    ] = "ipsec0"
    address: tuple[Annotated[str, Meta(description="address with prefix length", examples=["169.254.10.1/30"])], ...] = ()
    start: Literal["start", "on-demand", "respond"] = "on-demand"
    encapsulation: Annotated[
        Literal["auto", "udp", "esp"],
        Meta(description="auto: UDP where both sides can and it gets through; udp: always; esp: IP protocol 50"),
    ] = "auto"
    routes: Annotated[
        Literal["auto", "none"] | tuple[Prefix, ...],
        Meta(description='"auto": remote prefixes of the proxy IDs except 0.0.0.0/0 and ::/0; a list of prefixes; "none"'),
    ] = "auto"
    legacy: Annotated[bool, Meta(description="admit what RFC 8247 calls SHOULD NOT")] = False
    mtu: Annotated[
        int,
        Meta(
            description="octets of the largest inner packet; 0: as the way to the peer allows",
            extra_json_schema={"minimum": 0, "maximum": 65535},
        ),
    ] = 0
    fragment: Annotated[
        Literal["before", "after"], Meta(description="what is too long and may be fragmented is, before it is sealed or after")
    ] = "before"
    df: Annotated[Literal["copy", "set", "clear"], Meta(description="the outer don't-fragment bit (RFC 4301 §8.1)")] = "copy"
    mss_clamp: Annotated[
        str | int,
        Meta(description="off; auto: TCP SYNs announce no more than the tunnel carries whole; or octets", examples=["auto", 1360]),
    ] = "off"
    dscp: Annotated[str | int, Meta(description="outer DSCP: copy, or 0 to 63 (RFC 2983)", examples=["copy", 46])] = "copy"
    dscp_in: Annotated[
        Literal["keep", "copy"], Meta(description="inner DSCP of what comes in: keep it, or copy the outer one (RFC 2983)")
    ] = "keep"
    ecn: Annotated[
        Literal["normal", "compatibility"], Meta(description="RFC 6040 §4.1; compatibility: outer packets are not ECN-capable")
    ] = "normal"
    hop_limit: Annotated[
        str | int, Meta(description="outer TTL or hop limit: host, copy (of the inner one), or 1 to 255", examples=["host", 64])
    ] = "host"
    flow_label: Annotated[
        Literal["zero", "flow"], Meta(description="of outer IPv6: zero, or one for each inner flow (RFC 6438)")
    ] = "zero"
    proxy_id: tuple[ProxyId, ...] = ()
    auth: Auth | None = None
    ike: Ike = Ike()
    esp: Esp = Esp()
    monitor: Monitor | None = None
    manual_unsafe: ManualUnsafe | None = None


class Policy(Selectors, frozen=True, kw_only=True):
    """A rule decided before the tunnels' proxy IDs; the first that holds a packet counts."""

    action: Literal["protect", "bypass", "discard"] | None
    tunnel: Annotated[Name, Meta(description="under protect: into which tunnel")] | None = None


class Route(Table, frozen=True, kw_only=True):
    """A further prefix into a tunnel."""

    prefix: Prefix | None
    tunnel: Name | None
    metric: Annotated[int, Meta(examples=[50], extra_json_schema={"minimum": 1, "maximum": 3_999_999_999})] = 50


class Zone(Table, frozen=True, kw_only=True):
    """Interfaces between which traffic passes; from and to others a [[zone_rule]] must let it."""

    name: Annotated[Name, Meta(description='any but "gateway", which is the gateway itself', examples=["vpn"])] | None
    interfaces: (
        tuple[Annotated[str, Meta(description="an interface, or the begin of names and *", examples=["ipsec0", "eth*"])], ...]
        | None
    )


class ZoneRule(Table, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What may pass from one zone to another; the first rule that holds a packet counts, without one it is dropped."""

    from_: Annotated[Name, Meta(description='a zone, or "gateway"', examples=["lan"])] | None
    to: Annotated[Name, Meta(description='a zone, or "gateway"', examples=["vpn"])] | None
    source: Addresses | None = None
    destination: Addresses | None = None
    protocol: Protocol = "any"
    source_ports: Ports = "any"
    destination_ports: Ports = "any"
    action: Literal["allow", "deny"] = "allow"
    log: Annotated[bool, Meta(description="in the gateway's log, ten lines a second at the most")] = False


class Metrics(Table, frozen=True, kw_only=True):
    """What runs, as Prometheus reads it. Without this table nothing listens."""

    listen: Annotated[
        str,
        Meta(description="address:port of /metrics; only this host reads it at a loopback address", examples=["127.0.0.1:9551"]),
    ] = "127.0.0.1:9551"


class Log(Table, frozen=True, kw_only=True):
    """What is logged, and in which form."""

    format: Annotated[
        Literal["text", "json", "journald"],
        Meta(description="text: lines at stderr; json: one object a line there; journald: the journal, with fields"),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="from which level on; `ipsec-dp log` changes it meanwhile")
    ] = "info"


class File(Table, frozen=True, kw_only=True):
    """Configuration of one ipsec-dp gateway."""

    gateway: Gateway = Gateway()
    metrics: Metrics | None = None
    log: Log = Log()
    tunnel: tuple[Tunnel, ...] = ()
    policy: tuple[Policy, ...] = ()
    route: tuple[Route, ...] = ()
    zone: tuple[Zone, ...] = ()
    zone_rule: tuple[ZoneRule, ...] = ()
