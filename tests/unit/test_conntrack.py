"""A row of the kernel's table of connections: read whatever is in it, and the command that deletes just that one."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any, Self

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from ipsec_dp.host import conntrack
from ipsec_dp.host.conntrack import FlowTuple, KernelFlows, NatFlow, exemption, flow_of
from ipsec_dp.ipsec.selectors import PORT_OPAQUE

A, B, OUTER = "10.1.0.2", "10.2.0.2", "192.0.2.1"
A6, B6, OUTER6 = "fd00:1::2", "fd00:2::2", "2001:db8::1"


def half(version: int, source: str, destination: str, protocol: int | None, **upper: int) -> dict[str, Any]:
    ends = {f"CTA_IP_V{version}_SRC": source, f"CTA_IP_V{version}_DST": destination}
    proto = ({} if protocol is None else {"CTA_PROTO_NUM": protocol}) | {
        f"CTA_PROTO_{name.upper()}": n for name, n in upper.items()
    }
    return {
        "attrs": [
            ("CTA_TUPLE_IP", {"attrs": list(ends.items())}),
            ("CTA_TUPLE_PROTO", {"attrs": list(proto.items())}),
        ]
    }


def row(*attributes: tuple[str, Any]) -> nfct_msg:
    """As the kernel sends it: encoded and decoded again."""
    made = nfct_msg()
    made["attrs"] = list(attributes)
    made.encode()
    read = nfct_msg(made.data)
    read.decode()
    return read


def connection(version: int, original: dict[str, Any], reply: dict[str, Any], *more: tuple[str, Any]) -> NatFlow | None:
    return flow_of(version, row(("CTA_TUPLE_ORIG", original), ("CTA_TUPLE_REPLY", reply), ("CTA_ID", 7), *more))


UDP = connection(4, half(4, A, B, 17, src_port=5555, dst_port=7000), half(4, B, OUTER, 17, src_port=7000, dst_port=1024))
PING = connection(
    4,
    half(4, A, B, 1, icmp_id=99, icmp_type=8, icmp_code=0),
    half(4, B, OUTER, 1, icmp_id=99, icmp_type=0, icmp_code=0),
    ("CTA_ZONE", 5),
)
PING6 = connection(
    6,
    half(6, A6, B6, 58, icmpv6_id=5, icmpv6_type=128, icmpv6_code=0),
    half(6, B6, OUTER6, 58, icmpv6_id=5, icmpv6_type=129, icmpv6_code=0),
)
TCP6 = connection(6, half(6, A6, B6, 6, src_port=1, dst_port=443), half(6, B6, OUTER6, 6, src_port=443, dst_port=1))
IPIP = connection(4, half(4, A, B, 4), half(4, B, OUTER, 4))
REDIRECTED = connection(4, half(4, A, "203.0.113.9", 17, src_port=5, dst_port=80), half(4, B, OUTER, 17, src_port=8080, dst_port=5))


def test_a_connection_as_its_packets_leave_with_and_without_the_translation():
    assert UDP is not None
    assert UDP.source_translated
    assert UDP.leaving == FlowTuple(ip_address(A), ip_address(B), 5555, 7000)
    assert UDP.translated == FlowTuple(ip_address(OUTER), ip_address(B), 1024, 7000)
    assert UDP.text == "udp 10.1.0.2:5555 -> 10.2.0.2:7000"


def test_a_translated_destination_is_where_packets_go():
    assert REDIRECTED is not None
    assert REDIRECTED.leaving == FlowTuple(ip_address(A), ip_address(B), 5, 8080)
    assert "-d 203.0.113.9" in REDIRECTED.deletion, "and the first packet's is what names the connection"


def test_icmp_has_its_type_and_code_in_both_ports():
    assert PING is not None
    assert (PING.leaving.source_port, PING.leaving.destination_port, PING.translated.source_port) == (0x800, 0x800, 0x800)
    assert PING.text == "icmp type 8 code 0 10.1.0.2 -> 10.2.0.2"


@pytest.mark.parametrize(
    ("flow", "command"),
    [
        (UDP, "conntrack -D -f ipv4 -p udp -s 10.1.0.2 -d 10.2.0.2 --sport 5555 --dport 7000"),
        (PING, "conntrack -D -f ipv4 -p icmp -s 10.1.0.2 -d 10.2.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 99 -w 5"),
        (
            PING6,
            "conntrack -D -f ipv6 -p icmpv6 -s fd00:1::2 -d fd00:2::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 5",
        ),
        (TCP6, "conntrack -D -f ipv6 -p tcp -s fd00:1::2 -d fd00:2::2 --sport 1 --dport 443"),
        (IPIP, "conntrack -D -f ipv4 -p 4 -s 10.1.0.2 -d 10.2.0.2"),
    ],
)
def test_the_command_names_just_this_connection(flow, command):
    assert flow.deletion == command


def test_a_protocol_without_ports_has_none():
    assert IPIP is not None
    assert IPIP.leaving == FlowTuple(ip_address(A), ip_address(B), PORT_OPAQUE, PORT_OPAQUE)


@pytest.mark.parametrize(
    "broken",
    [
        row(("CTA_ID", 7)),
        row(("CTA_TUPLE_ORIG", half(4, A, B, 17, src_port=1, dst_port=2)), ("CTA_ID", 7)),
        row(("CTA_TUPLE_ORIG", half(4, A, B, None)), ("CTA_TUPLE_REPLY", half(4, B, A, None))),
        row(("CTA_TUPLE_ORIG", half(4, A, B, 1)), ("CTA_TUPLE_REPLY", half(4, B, A, 1)), ("CTA_ID", 7)),
    ],
    ids=["no tuple", "no reply", "no number", "ICMP without a type"],
)
def test_a_row_that_is_none_is_passed_over(broken):
    assert flow_of(4, broken) is None


def test_what_is_not_translated_says_so():
    same = connection(4, half(4, A, B, 17, src_port=1, dst_port=2), half(4, B, A, 17, src_port=2, dst_port=1))
    assert same is not None
    assert not same.source_translated


def test_the_exemption_is_of_the_address_family():
    assert exemption("ipsec0", 6) == 'nft insert rule ip6 nat POSTROUTING oifname "ipsec0" return'


@pytest.mark.parametrize("count", ["0\n", None, "nonsense"])
def test_where_nothing_is_tracked_nothing_is_asked(tmp_path, monkeypatch, count):
    """To ask would load the kernel's module."""
    file = tmp_path / "nf_conntrack_count"
    if count is not None:
        file.write_text(count)
    monkeypatch.setattr(conntrack, "COUNT", file)
    monkeypatch.setattr(conntrack, "AsyncNFCTSocket", None)
    assert asyncio.run(KernelFlows().translated()) == []


def test_a_kernel_that_does_not_answer_is_no_failure(tmp_path, monkeypatch):
    file = tmp_path / "nf_conntrack_count"
    file.write_text("3\n")

    def refused(**_: Any) -> Any:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(conntrack, "COUNT", file)
    monkeypatch.setattr(conntrack, "AsyncNFCTSocket", refused)
    assert asyncio.run(KernelFlows().translated()) == []
    assert UDP is not None
    assert asyncio.run(KernelFlows().delete([UDP])) == []


def test_what_was_deleted_before_the_kernel_failed_is_said_to_be_deleted(monkeypatch):
    assert UDP is not None
    assert TCP6 is not None

    class Table:
        """Deletes those of IPv4, and breaks down after that."""

        def __init__(self, nfgen_family: int) -> None:
            self._broken = nfgen_family != conntrack.FAMILIES[4]

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def entry(self, *_: object, **__: object) -> None:
            if self._broken:
                raise OSError("no buffer space")

    monkeypatch.setattr(conntrack, "AsyncNFCTSocket", Table)
    assert asyncio.run(KernelFlows().delete([UDP, TCP6])) == [UDP]
