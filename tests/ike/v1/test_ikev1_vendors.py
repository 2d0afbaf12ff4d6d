"""Vendor IDs: known by name, counted where not, bounded; which way of NAT-T, fragments and DPD follow from them."""

from hashlib import md5

import pytest

from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.v1 import vendors
from ipsec_dp.ike.v1.message import build_payloads, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.payloads import VendorIdPayload
from ipsec_dp.ike.v1.wire import HEADER

from .gateways import Gateways, peer

NAMES = {one.name: one for one in vendors.VENDOR_IDS}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NAT-T", "RFC 3947"),
        ("NAT-T draft-03", "draft-ietf-ipsec-nat-t-ike-03"),
        ("fragmentation", "FRAGMENTATION"),
        ("strongSwan", "strongSwan"),
        ("racoon", "KAME/racoon"),
        ("Windows", "MS NT5 ISAKMPOAKLEY"),
        ("XAUTH", "draft-ietf-ipsra-isakmp-xauth-06.txt"),
        ("Cisco Unity", "CISCO-UNITY"),
    ],
)
def test_most_are_the_md5_of_a_name(name, text):
    octets = NAMES[name].octets
    assert md5(text.encode(), usedforsecurity=False).digest()[: len(octets)] == octets


def test_draft_02_has_two_one_with_the_newline_that_the_draft_has():
    both = {
        md5(text.encode(), usedforsecurity=False).digest()
        for text in ("draft-ietf-ipsec-nat-t-ike-02", "draft-ietf-ipsec-nat-t-ike-02\n")
    }
    assert {one.octets for one in vendors.DRAFTS if one.name == "NAT-T draft-02"} == both


def said(octets):
    """What a's status tells of b, who sends these vendor IDs besides its own."""
    gateways = Gateways()
    gateways.initiate("a")
    gateways.deliver("b")
    datagram, path = gateways.taken("a")
    header, first = parse_isakmp_header(datagram)
    payloads = [*parse_payloads(header, first, datagram[HEADER:]).payloads, *map(VendorIdPayload, octets)]
    _, body = build_payloads(payloads)
    longer = datagram[:24] + (HEADER + len(body)).to_bytes(4, "big") + body
    gateways.a.do(gateways.a.core.receive(longer, gateways.translate(path, "a"), gateways.clock()))
    gateways.settle()
    (status,) = gateways.a.status
    return status


def test_makers_are_named_in_status_and_others_counted():
    status = said(
        [
            b"OE-Libreswan-4.12",
            bytes.fromhex("12f5f28c457168a9702d9fe274cc0100"),
            bytes.fromhex("1d6e178f6c2c0be284985465450fe9d4"),
            bytes.fromhex("1e2b516905991c7d7c96fcbfb587e461 00000009"),
            b"who knows",
            bytes(16),
            b"",
        ]
    )
    assert status.vendors[-4:] == ("Libreswan", "Cisco Unity", "FortiGate", "Windows")
    assert status.unknown_vendors == 3


def test_what_is_longer_than_it_should_be_is_not_known():
    status = said([NAMES["strongSwan"].octets + b"x", NAMES["FortiGate"].octets[:-1], NAMES["XAUTH"].octets])
    assert "strongSwan" not in status.vendors
    assert "XAUTH" in status.vendors
    assert status.unknown_vendors == 2


def test_however_many_come_a_name_is_said_once_and_the_others_are_a_number():
    status = said([NAMES["XAUTH"].octets] * 40 + [bytes([number]) for number in range(60)])
    assert status.vendors.count("XAUTH") == 1
    assert status.unknown_vendors == 60


def test_two_of_ours_know_each_other():
    gateways = Gateways().start()
    assert gateways.a.status[0].vendors == ("NAT-T", "DPD", "fragmentation")
    assert gateways.b.status[0].vendors == ("NAT-T", "NAT-T draft-03", "NAT-T draft-02", "DPD", "fragmentation")
    assert {one.status[0].unknown_vendors for one in gateways.sites.values()} == {0}


@pytest.mark.parametrize(
    ("further", "taken"),
    [("", True), ("80000000", True), ("c0000000", True), ("40000000", False), ("00000000", False), ("800000", False)],
)
def test_who_takes_fragments(further, taken, monkeypatch):
    """Windows says no capabilities, Cisco more than others; of base mode alone nothing follows."""
    only = [VendorIdPayload(vendors.FRAGMENTATION.octets + bytes.fromhex(further))]
    monkeypatch.setattr(vendors, "offered", lambda _: only)
    gateways = Gateways()
    gateways.initiate("a")
    gateways.deliver("b")
    answer = gateways.wire.log[1][0].data[0]
    assert (vendors.FRAGMENTATION.octets + vendors.OF_PHASE_1 in answer) == taken


def test_dpd_may_be_announced_in_a_later_message(monkeypatch):
    """As some makers do, with message 4."""
    monkeypatch.setattr(vendors, "answered", lambda _: [])
    gateways = Gateways([peer("a", liveness=Liveness(10.0, 2))])
    gateways.initiate("a")
    for receiver in ("b", "a", "b"):
        assert gateways.deliver(receiver)
    datagram, path = gateways.taken("a")
    header, first = parse_isakmp_header(datagram)
    payloads = [*parse_payloads(header, first, datagram[HEADER:]).payloads, VendorIdPayload(vendors.DPD.octets)]
    _, body = build_payloads(payloads)
    longer = datagram[:24] + (HEADER + len(body)).to_bytes(4, "big") + body
    gateways.a.do(gateways.a.core.receive(longer, gateways.translate(path, "a"), gateways.clock()))
    gateways.settle()
    gateways.run(15)
    assert gateways.a.status[0].vendors == ("DPD",)
    assert gateways.modes("a")[-1] == "ab info", "R-U-THERE"
