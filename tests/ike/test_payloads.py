"""Every payload of RFC 7296 §3: what is built parses back, what is wrong is refused with a syntax error."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.negotiation import select
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.payload import build_chain
from ipsec_dp.ike.proposal import Proposal
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import PARSERS, parse_chain
from ipsec_dp.ike.v2.wire import PayloadType
from ipsec_dp.ipsec.transforms import Transform

from . import strategies


def parse(cls, octets):
    return cls.parse(Reader(octets))


def body(payload):
    writer = Writer()
    payload.build(writer)
    return writer.take()


@given(strategies.payloads)
def test_what_is_built_parses_back_to_itself(payload):
    assert parse(type(payload), body(payload)) == payload


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=300))
def test_arbitrary_octets_parse_canonically_or_raise_only_the_syntax_error(payload_type, octets):
    try:
        payload = parse(PARSERS[payload_type], octets)
    except IkeSyntaxError:
        return
    if getattr(payload, "selectors", True):  # selectors of unknown types alone cannot be built again
        assert parse(type(payload), body(payload)) == payload


@given(strategies.payloads, st.integers(0, 400), st.integers(1, 255))
def test_one_changed_octet_never_raises_anything_else(payload, at, change):
    octets = bytearray(body(payload))
    if octets:
        octets[at % len(octets)] ^= change
    with contextlib.suppress(IkeSyntaxError):
        parse(type(payload), octets)


@given(strategies.chains)
def test_a_chain_parses_back_to_itself(chain):
    writer = Writer()
    first = build_chain(writer, chain)
    assert parse_chain(first, Reader(writer.take()), inside=True) == chain


# --- wire layouts, written out by hand from the figures of RFC 7296 §3 ---------------------------------------------------

LAYOUTS = {
    "KE": (p.KeyExchangePayload(31, b"\x11\x22"), "001f 0000 1122"),
    "IDi": (p.IdentificationInitiator(1, bytes([192, 0, 2, 1])), "01 000000 c0000201"),
    "CERT": (p.Certificate(4, b"\x30\x00"), "04 3000"),
    "CERTREQ": (p.CertificateRequest(4, bytes(20)), "04" + "00" * 20),
    "AUTH": (p.Authentication(14, b"\xaa"), "0e 000000 aa"),
    "N": (p.Notify(16393, b"", 3, b"\x01\x02\x03\x04"), "03 04 4009 01020304"),
    "N without SPI": (p.Notify(16390, b"\xcc"), "00 00 4006 cc"),
    "D of the IKE SA": (p.Delete(1), "01 00 0000"),
    "D of two": (p.Delete(3, (b"\0\0\x01\0", b"\0\0\x02\0")), "03 04 0002 00000100 00000200"),
    "TSi": (
        p.TrafficSelectorsInitiator((TrafficSelector.from_prefix("10.1.0.0/24", 6, (443, 443)),)),
        "01 000000 07 06 0010 01bb 01bb 0a010000 0a0100ff",
    ),
    "CP": (p.Configuration(1, ((1, b""),)), "01 000000 0001 0000"),
    "EAP": (p.Eap(1, 9, b"\x01"), "01 09 0005 01"),
    "SA": (
        p.SecurityAssociation((Proposal(1, 3, b"\0\0\x10\x01", (Transform(1, 20, 256), Transform(5, 0))),)),
        (
            "00 00 0020 01 03 04 02 00001001"  # proposal
            "03 00 000c 01 00 0014 800e 0100"  # ENCR_AES_GCM_16, key length 256
            "00 00 0008 05 00 0000"
        ),  # no ESN
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name):
    payload, octets = LAYOUTS[name]
    assert body(payload) == bytes.fromhex(octets)
    assert parse(type(payload), bytes.fromhex(octets)) == payload


# --- bad input, one row each: payload class, body, why --------------------------------------------------------------------

BAD = {
    "KE without a value": (p.KeyExchangePayload, "000e 0000"),
    "identity without content": (p.IdentificationInitiator, "02 000000"),
    "IPv4 identity of 5 octets": (p.IdentificationInitiator, "01 000000 0102030405"),
    "IPv6 identity of 4 octets": (p.IdentificationResponder, "05 000000 01020304"),
    "identity cut in its header": (p.IdentificationInitiator, "02 00"),
    "certificate without content": (p.Certificate, "04"),
    "AUTH without content": (p.Authentication, "02 000000"),
    "nonce of 15 octets": (p.Nonce, "00" * 15),
    "nonce of 257 octets": (p.Nonce, "00" * 257),
    "notify whose SPI is cut": (p.Notify, "03 04 4009 0102"),
    "REKEY_SA with an IKE SPI": (p.Notify, "01 08 4009 0102030405060708"),
    "notify with an ESP SPI of 8 octets": (p.Notify, "03 08 4009 0102030405060708"),
    "notify with an SPI and protocol 0": (p.Notify, "00 04 4009 01020304"),
    "notify with an SPI and an unknown protocol": (p.Notify, "09 04 4009 01020304"),
    "delete of more SPIs than follow": (p.Delete, "03 04 0002 00000100"),
    "delete of fewer SPIs than follow": (p.Delete, "03 04 0001 00000100 00000200"),
    "delete of the IKE SA with an SPI": (p.Delete, "01 08 0001 0102030405060708"),
    "delete of 65535 SPIs of no octets": (p.Delete, "03 00 ffff"),
    "delete of 65535 SPIs for an unknown protocol": (p.Delete, "07 00 ffff"),
    "delete for an unknown protocol with fewer octets than counted": (p.Delete, "07 08 0001 00000100"),
    "no traffic selectors": (p.TrafficSelectorsInitiator, "00 000000"),
    "fewer traffic selectors than counted": (p.TrafficSelectorsInitiator, "02 000000 07 00 0010 0000 ffff 0a010000 0a0100ff"),
    "traffic selector of length 0": (p.TrafficSelectorsInitiator, "01 000000 07 00 0000 0000 ffff 0a010000 0a0100ff"),
    "IPv4 selector with an IPv6 length": (p.TrafficSelectorsInitiator, "01 000000 07 00 0028 0000 ffff" + "00" * 32),
    "selector longer than the payload": (p.TrafficSelectorsResponder, "01 000000 08 00 0028 0000 ffff 00"),
    "selector that ends before it starts": (p.TrafficSelectorsInitiator, "01 000000 07 00 0010 0000 ffff 0a0100ff 0a010000"),
    "ports that end before they start": (p.TrafficSelectorsInitiator, "01 000000 07 06 0010 0002 0001 0a010000 0a0100ff"),
    "octets after the last selector": (p.TrafficSelectorsInitiator, "01 000000 07 00 0010 0000 ffff 0a010000 0a0100ff 00"),
    "EAP length beyond the payload": (p.Eap, "01 09 0006 01"),
    "EAP request without type": (p.Eap, "01 09 0004"),
    "EAP success with data": (p.Eap, "03 09 0005 01"),
    "EAP code 5": (p.Eap, "05 09 0005 01"),
    "CP attribute cut": (p.Configuration, "01 000000 0001 0004 0a"),
    "no proposals": (p.SecurityAssociation, ""),
    "proposal length 0": (p.SecurityAssociation, "00 00 0000 01 01 00 01"),
    "proposal longer than the payload": (p.SecurityAssociation, "00 00 0040 01 01 00 01 00 00 0008 01 00 0014"),
    "fewer transforms than counted": (p.SecurityAssociation, "00 00 0010 01 01 00 02 03 00 0008 01 00 0014"),
    "more transforms than counted": (p.SecurityAssociation, "00 00 0018 01 01 00 01 00 00 0008 01 00 0014 00 00 0008 01 00 0014"),
    "transform that claims another": (p.SecurityAssociation, "00 00 0010 01 01 00 01 03 00 0008 01 00 0014"),
    "transform length 4": (p.SecurityAssociation, "00 00 000c 01 01 00 01 00 00 0004"),
    "proposal number 0": (p.SecurityAssociation, "00 00 0010 00 01 00 01 00 00 0008 01 00 0014"),
    "attribute cut": (p.SecurityAssociation, "00 00 0012 01 01 00 01 00 00 000a 01 00 0014 800e"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    cls, octets = BAD[name]
    with pytest.raises(IkeSyntaxError):
        parse(cls, bytes.fromhex(octets))


# --- what has a meaning only beside others, or none here: the payload is read, and nobody uses that part of it ---

ODD = {
    "CERTREQ of 19 octets": (p.CertificateRequest, "04" + "00" * 19),
    "CERTREQ of an unknown encoding": (p.CertificateRequest, "c8 010203"),
    "status notify with an IKE SPI": (p.Notify, "01 08 9c40 0102030405060708 aa"),
    "error notify with an IKE SPI": (p.Notify, "01 08 0004 0102030405060708"),
    "status notify with an SPI of 255 octets for an unknown protocol": (p.Notify, "09 ff 4004" + "00" * 255),
    "cookie with an SPI": (p.Notify, "03 04 4006 01020304 cc"),
    "delete for an unknown protocol": (p.Delete, "07 08 0002" + "01" * 8 + "02" * 8),
    "delete of SPIs of no octets for an unknown protocol": (p.Delete, "07 00 0001"),
    "proposal without transforms": (p.SecurityAssociation, "00 00 0008 01 01 00 00"),
    "ESP proposal with an SPI of 8 octets": (
        p.SecurityAssociation,
        "00 00 0018 01 03 08 01 0102030405060708 00 00 0008 01 00 0014",
    ),
    "ESP proposal without SPI": (p.SecurityAssociation, "00 00 0010 01 03 00 01 00 00 0008 01 00 0014"),
    "ESP proposal with a reserved SPI": (p.SecurityAssociation, "00 00 0014 01 03 04 01 000000ff 00 00 0008 01 00 0014"),
    "IKE proposal with SPI zero": (p.SecurityAssociation, "00 00 0018 01 01 08 01" + "00" * 8 + "00 00 0008 01 00 0014"),
    "IKE proposal with an SPI of 4 octets": (p.SecurityAssociation, "00 00 0014 01 01 04 01 01020304 00 00 0008 01 00 0014"),
    "key length as type/length/value": (
        p.SecurityAssociation,
        "00 00 0016 01 01 00 01 00 00 000e 01 00 0014 000e 0002 0100",
    ),
    "key length twice": (p.SecurityAssociation, "00 00 0018 01 01 00 01 00 00 0010 01 00 0014 800e 0100 800e 0080"),
    "key length 0": (p.SecurityAssociation, "00 00 0014 01 01 00 01 00 00 000c 01 00 0014 800e 0000"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_item_that_nobody_can_use_does_not_refuse_its_payload(name):
    cls, octets = ODD[name]
    payload = parse(cls, bytes.fromhex(octets))
    assert body(payload) == bytes.fromhex(octets)


@pytest.mark.parametrize("name", [name for name, (cls, _) in ODD.items() if cls is p.SecurityAssociation])
def test_a_proposal_that_nobody_can_use_is_never_chosen(name):
    cls, octets = ODD[name]
    (odd,) = parse(cls, bytes.fromhex(octets)).proposals
    ours = (Proposal(1, odd.protocol, b"", (Transform(1, 20),)),)
    assert select(ours, (odd,)) is None
    assert select(ours, (Proposal(1, odd.protocol, b"\x01" * (4 if odd.protocol == 3 else 8), (Transform(1, 20),)),)) is not None


def test_proposals_are_numbered_from_one_without_gaps_but_a_chosen_one_keeps_its_number():
    transforms = (Transform(1, 20, 128),)
    three, two, one = (Proposal(number, 1, b"", transforms) for number in (3, 2, 1))
    for good in ((three,), (one,), (one, two, three)):
        assert parse(p.SecurityAssociation, body(p.SecurityAssociation(good))).proposals == good
    for bad in ((one, three), (two, one), (one, one), (two, three)):
        with pytest.raises(IkeSyntaxError, match="proposal numbers"):
            parse(p.SecurityAssociation, body(p.SecurityAssociation(bad)))


def test_too_many_proposals_are_refused():
    many = tuple(Proposal(number, 1, b"", (Transform(1, 20, 128),)) for number in range(1, 66))
    with pytest.raises(IkeSyntaxError, match="more than 64 proposals"):
        parse(p.SecurityAssociation, body(p.SecurityAssociation(many)))


def test_too_many_transforms_are_refused():
    """Unauthenticated octets must not buy more work than a real offer needs."""
    many = tuple(Proposal(number, 1, b"", (Transform(1, 20, 128),) * 200) for number in range(1, 4))
    with pytest.raises(IkeSyntaxError, match="more than 512 transforms"):
        parse(p.SecurityAssociation, body(p.SecurityAssociation(many)))


def test_too_many_attributes_are_refused():
    many = Transform(1, 20, None, ((0x8063, b"\0\x01"),) * (LIMITS.attributes + 1))
    with pytest.raises(IkeSyntaxError, match="more than 64 attributes"):
        parse(p.SecurityAssociation, body(p.SecurityAssociation((Proposal(1, 1, b"", (many,)),))))
    with pytest.raises(IkeSyntaxError, match="more than 256 configuration attributes"):
        parse(p.Configuration, body(p.Configuration(1, ((1, b""),) * 257)))


def test_error_and_status_notifies_are_told_apart():
    assert p.Notify(16383).is_error
    assert not p.Notify(16384).is_error


def test_a_delete_of_thousands_is_refused():
    spis = tuple(number.to_bytes(4, "big") for number in range(1, 1026))
    assert len(parse(p.Delete, body(p.Delete(3, spis[:1024]))).spis) == 1024
    with pytest.raises(IkeSyntaxError, match="more than 1024 SPIs"):
        parse(p.Delete, body(p.Delete(3, spis)))


def test_a_selector_of_unknown_type_is_passed_over():
    octets = bytes.fromhex("02 000000 0a 00 0006 abcd 07 00 0010 0000 ffff 0a010000 0a0100ff")
    assert parse(p.TrafficSelectorsInitiator, octets).selectors == (TrafficSelector.from_prefix("10.1.0.0/24"),)


def test_a_notify_without_spi_has_no_protocol_whatever_the_peer_wrote():
    assert parse(p.Notify, bytes.fromhex("01 00 000e")) == p.Notify(14)


def test_duplicate_spis_in_one_delete_count_once():
    spi = b"\0\0\x01\0"
    assert parse(p.Delete, bytes.fromhex("03 04 0003") + spi * 3).spis == (spi,)


def test_repr_holds_neither_auth_data_nor_ciphertext():
    secret = b"\xde\xad\xbe\xef"
    for payload in (p.Authentication(2, secret), p.Encrypted(35, secret), p.EncryptedFragment(0, 2, 3, secret)):
        assert "xde" not in repr(payload)
    assert p.Encrypted.type is PayloadType.SK


def test_non_first_fragments_also_is_a_notify_without_spi_or_data():
    """RFC 7296 §3.10, §3.10.1: protocol and SPI size zero, type 16395."""
    octets = bytes.fromhex("0000400b")
    assert body(p.Notify(16395)) == octets
    assert parse(p.Notify, octets) == p.Notify(16395)
