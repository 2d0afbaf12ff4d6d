"""Connections that the kernel tracks and whose source it translates (ctnetlink): listed and deleted.

A translation is decided once, by a connection's first packet, and kept as long as packets come: a rule that caught a flow goes on
holding it wherever the flow is routed later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import AsyncNFCTSocket
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import IPS_SRC_NAT, NFCTAttrTuple

from ipsec_dp.ipsec.flow import flow_text
from ipsec_dp.ipsec.selectors import ICMP_PROTOCOLS, PORT_OPAQUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ipsec.addresses import Address

# It is there, and more than 0, where something is tracked. To ask for the table would load the module that is not.
COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")
READ_MOST = 16384  # of each IP version: a good second of another thread
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL_WORDS = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite"}


@dataclass(frozen=True, slots=True)
class FlowTuple:
    """One direction of a connection. Under ICMP both ports are type << 8 | code; 65536: the protocol shows none."""

    source: Address
    destination: Address
    source_port: int = PORT_OPAQUE
    destination_port: int = PORT_OPAQUE


@dataclass(frozen=True, slots=True)
class NatFlow:
    """One tracked connection: as its first packet came, and as the answers come. `number` tells it from any later one."""

    number: int
    protocol: int
    original: FlowTuple
    reply: FlowTuple
    icmp_id: int | None = None
    zone: int | None = None

    @property
    def source_translated(self) -> bool:
        """Answers go elsewhere than to where the first packet came from."""
        return self.reply.destination != self.original.source

    @property
    def leaving(self) -> FlowTuple:
        """As it would leave with its own source: the destination is the translated one, if that is."""
        return FlowTuple(self.original.source, self.reply.source, self.original.source_port, self._reply_port)

    @property
    def translated(self) -> FlowTuple:
        """As it does leave."""
        port = self.reply.destination_port if self.protocol not in ICMP_PROTOCOLS else self.original.source_port
        return replace(self.leaving, source=self.reply.destination, source_port=port)

    @property
    def _reply_port(self) -> int:
        return self.original.destination_port if self.protocol in ICMP_PROTOCOLS else self.reply.source_port

    @property
    def text(self) -> str:
        way = self.leaving
        return flow_text(self.protocol, way.source, way.source_port, way.destination, way.destination_port)

    @property
    def deletion(self) -> str:
        """The command that deletes just this one."""
        way = self.original
        words = ["conntrack -D", f"-f ipv{way.source.version}", f"-p {_PROTOCOL_WORDS.get(self.protocol, self.protocol)}"]
        words += [f"-s {way.source}", f"-d {way.destination}"]
        if self.icmp_id is not None:
            parts = {"type": way.source_port >> 8, "code": way.source_port & 255, "id": self.icmp_id}
            words += [f"--{_PROTOCOL_WORDS[self.protocol]}-{part} {value}" for part, value in parts.items()]
        elif way.source_port != PORT_OPAQUE and self.protocol != 47:
            words += [f"--sport {way.source_port}", f"--dport {way.destination_port}"]
        return " ".join(words if self.zone is None else [*words, f"-w {self.zone}"])


def exemption(interface: str, version: int) -> str:
    """What a person puts in front of a rule that translates sources on a tunnel's interface; table and chain as most have them."""
    return f'nft insert rule {"ip6" if version == 6 else "ip"} nat POSTROUTING oifname "{interface}" return'


def _way(version: int, part: Any) -> tuple[int, FlowTuple, int | None]:
    """Protocol, ends, and ICMP identifier of a tuple. AttributeError, ValueError: it has not all of them."""
    ends, upper = part.get_attr("CTA_TUPLE_IP"), part.get_attr("CTA_TUPLE_PROTO")
    source, destination = (ip_address(ends.get_attr(f"CTA_IP_V{version}_{end}")) for end in ("SRC", "DST"))
    protocol = upper.get_attr("CTA_PROTO_NUM")
    if protocol in ICMP_PROTOCOLS:
        name = "CTA_PROTO_ICMPV6" if version == 6 else "CTA_PROTO_ICMP"
        kind = upper.get_attr(f"{name}_TYPE") << 8 | upper.get_attr(f"{name}_CODE")
        return protocol, FlowTuple(source, destination, kind, kind), upper.get_attr(f"{name}_ID")
    ports = (upper.get_attr("CTA_PROTO_SRC_PORT"), upper.get_attr("CTA_PROTO_DST_PORT"))
    return protocol, FlowTuple(source, destination, *(PORT_OPAQUE if port is None else port for port in ports)), None


def flow_of(version: int, row: Any) -> NatFlow | None:
    """From a row of the table; None: it is no connection with two ends."""
    try:
        protocol, original, icmp_id = _way(version, row.get_attr("CTA_TUPLE_ORIG"))
        _, reply, _ = _way(version, row.get_attr("CTA_TUPLE_REPLY"))
        return NatFlow(int(row.get_attr("CTA_ID")), protocol, original, reply, icmp_id, row.get_attr("CTA_ZONE"))
    except (AttributeError, TypeError, ValueError):
        return None


async def _list(version: int) -> list[NatFlow]:
    found: list[NatFlow] = []
    async with AsyncNFCTSocket(nfgen_family=FAMILIES[version]) as table:
        rows = 0
        async for row in await table.dump(status=IPS_SRC_NAT, status_mask=IPS_SRC_NAT):
            flow = flow_of(version, row)
            if flow is not None and flow.source_translated:
                found.append(flow)
            rows += 1
            if rows >= READ_MOST:
                break
    return found


async def _delete(flows: Sequence[NatFlow], gone: list[NatFlow]) -> None:
    """Adds to `gone` each that it has deleted. NetlinkError, OSError: the rest is there."""
    for version, family in FAMILIES.items():
        async with AsyncNFCTSocket(nfgen_family=family) as table:
            for flow in (each for each in flows if each.original.source.version == version):
                try:
                    await table.entry("del", tuple_orig=_tuple(family, flow), id=flow.number, zone=flow.zone)
                    gone.append(flow)
                except NetlinkError:  # it ended meanwhile
                    continue


def _tuple(family: int, flow: NatFlow) -> NFCTAttrTuple:
    way = flow.original
    ends = {"family": family, "saddr": str(way.source), "daddr": str(way.destination), "proto": flow.protocol}
    if flow.icmp_id is not None:
        return NFCTAttrTuple(**ends, icmp_id=flow.icmp_id, icmp_type=way.source_port >> 8, icmp_code=way.source_port & 255)
    if way.source_port == PORT_OPAQUE:
        return NFCTAttrTuple(**ends)
    return NFCTAttrTuple(**ends, sport=way.source_port, dport=way.destination_port)


class KernelFlows:
    """`network.host.HostFlows` by ctnetlink, in the calling thread's namespace, but in a thread of its own: tables can be long."""

    async def translated(self) -> list[NatFlow]:
        return await asyncio.to_thread(self._translated)

    def _translated(self) -> list[NatFlow]:
        try:
            if int(COUNT.read_text()) == 0:
                return []
            return [flow for version in FAMILIES for flow in asyncio.run(_list(version))]
        except (NetlinkError, OSError, ValueError):  # nothing is tracked here, or we may not ask: then there is nothing to say
            return []

    async def delete(self, flows: Sequence[NatFlow]) -> list[NatFlow]:
        return await asyncio.to_thread(self._delete, flows)

    def _delete(self, flows: Sequence[NatFlow]) -> list[NatFlow]:
        gone: list[NatFlow] = []
        with contextlib.suppress(NetlinkError, OSError):
            asyncio.run(_delete(flows, gone))
        return gone
