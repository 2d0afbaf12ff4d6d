"""What `status` says: schema 1, to which later versions only add.

The fields stand in the order in which they are sent. Each has a default: the command shows the answer of a gateway of another
version as far as it goes. Nothing here loads the C core.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ipsec_dp.keying.status import IkeSaStatus, PostQuantumStatus
from ipsec_dp.services.monitor_health import MonitorStatus

SCHEMA: Final = 1


class ChildSaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One CHILD_SA; a side that has no SA at the moment has None for its SPI and 0 for its counters.

    `first_…_s`, `last_…_s`: how long ago it carried its first and its last packet; None: none yet. `window`: packets of the
    anti-replay window, below the highest sequence number received (`sequence_in`). `last_error`: why it carries nothing any more,
    else why each side dropped the last packet that it did. `worker`: the one that seals and opens for it.
    """

    spi_in: str | None = None
    spi_out: str | None = None
    suite: str | None = None
    esn: bool | None = None
    local_ts: tuple[str, ...] = ()
    remote_ts: tuple[str, ...] = ()
    age_s: float | None = None
    rekey_in_s: float | None = None
    packets_in: int = 0
    octets_in: int = 0
    sequence_in: int = 0
    last_in_s: float | None = None
    packets_out: int = 0
    octets_out: int = 0
    sequence_out: int = 0
    last_out_s: float | None = None
    drops: dict[str, int] = {}
    first_in_s: float | None = None
    first_out_s: float | None = None
    window: int | None = None
    last_error: str | None = None
    post_quantum: PostQuantumStatus = PostQuantumStatus()
    worker: int = 0


class TunnelTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a tunnel has carried by all SAs that it has and had since the gateway started: rekeys do not begin it anew.

    Octets are inner ones. `drops`: those that an SA can know, by reason.
    """

    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0
    drops: dict[str, int] = {}


class TunnelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One tunnel. `mtu`: octets of the largest inner packet; `path_mtu`: of the largest outer one, None while there is no peer.

    `encapsulation`: "udp" or "esp" (IP protocol 50), None while there is no IKE SA; `encapsulation_why`: "configured" here, "nat"
    (`nat`: where it was found; a peer of others that wants UDP looks as if it were behind one), "auto" (both sides can), "peer"
    (it wants UDP, or does not), "shared" (with a tunnel that is not to use it), "fallback" (UDP does not get through).
    `attempts` to `retransmissions` count from the start of the gateway. `remote_in_dns`: whether the peer has an address that its
    DNS names in `remote` mean now; None: there are none, or no peer. `pinned`: of one that prefers IKEv2, whether it is kept to
    that for good.
    """

    name: str = "?"
    state: str = "?"
    state_text: str = ""
    last_error: str | None = None
    remote: str | None = None
    nat: str | None = None
    ike: IkeSaStatus | None = None
    mtu: int | None = None
    path_mtu: int | None = None
    children: tuple[ChildSaStatus, ...] = ()
    monitor: MonitorStatus | None = None
    encapsulation: str | None = None
    encapsulation_why: str | None = None
    totals: TunnelTotals = TunnelTotals()
    attempts: int = 0
    failures: int = 0
    flaps: int = 0
    retransmissions: int = 0
    remote_in_dns: bool | None = None
    pinned: bool | None = None


class TrafficStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers did. `cookies_sent`: strangers' requests for an IKE SA that the data plane itself answered with a cookie."""

    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0
    keepalives_in: int = 0
    ike_in: int = 0
    cookies_sent: int = 0


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker did. `memory_octets`: what it and its buffers for packets take, once traffic has touched all of them."""

    worker: int = 0
    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0
    handed_over: int = 0
    taken_over: int = 0
    memory_octets: int = 0
    drops: dict[str, int] = {}


class SocketBufferStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Octets of the outer sockets' buffers: `asked` for, and the smallest that the kernel gave."""

    asked: int = 0
    receive: int = 0
    send: int = 0


class PuntStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the loops could not tell the control plane."""

    limited: int = 0
    lost: int = 0


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The memory that holds keys: of ESP, and whether those of IKE stay out of swap too (`ike_locked`)."""

    octets: int = 0
    locked: bool = False
    ike_locked: bool = False
    undumped: bool = False
    wiped_on_fork: bool = False


class ZoneRuleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one zone_rule held."""

    from_zone: str = msgspec.field(name="from", default="?")
    to_zone: str = msgspec.field(name="to", default="?")
    action: str = "?"
    packets: int = 0
    octets: int = 0


class ZoneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What passed between zones: the rules in their order, and what none of them let through."""

    denied: int = 0
    rules: tuple[ZoneRuleStatus, ...] = ()


class DropExampleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One of the last packets that a reason dropped, as far as it shows itself, and why, most likely.

    `text` is all of it but the times and the cause. `outer`: the addresses are those of the datagram outside, which was not opened
    or was sealed already. `direction`: "out" of the tunnel interface, or "in" from the peer. `at`: date and time, UTC.
    """

    text: str = ""
    direction: str = "?"
    source: str | None = None
    destination: str | None = None
    protocol: str | None = None
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    interface: str | None = None
    tunnel: str | None = None
    spi: str | None = None
    outer: bool = False
    at: str = ""
    ago_s: float | None = None
    cause: str = ""


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. `restored`: how often guard, zones, rules and routes were gone and made again.

    `offloads_given_up`: what the kernel said it does and then did not, which stays off.

    `upgraded_at`: date and time, UTC, since when this process goes on with another's SAs; None: it was started.

    `ike_counters`: IKE datagrams that led to nothing, by reason, and what is held (`ipsec_dp.ike.interface.Counters`).

    `tunnels` is last: it is sent one by one.
    """

    schema: int = SCHEMA
    gateway: str = "?"
    provider: str = "?"
    provider_reason: str = ""
    offloads: dict[str, bool] = {}
    offloads_given_up: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    drops: dict[str, int] = {}
    drop_sentences: dict[str, str] = {}
    traffic: TrafficStatus = TrafficStatus()
    workers: tuple[WorkerStatus, ...] = ()
    socket_buffers: SocketBufferStatus | None = None
    punts: PuntStatus = PuntStatus()
    keys: KeyStatus = KeyStatus()
    guard: dict[str, int] = {}
    zones: ZoneStatus | None = None
    drop_examples: dict[str, tuple[DropExampleStatus, ...]] = {}
    restored: dict[str, int] = {}
    ike_counters: dict[str, int] = {}
    upgraded_at: str | None = None
    tunnels: tuple[TunnelStatus, ...] = ()
