"""What peers send and nobody here can use: the item is passed over, its message counts; and what does end an IKE SA, on both sides.

docs/ike-tolerance.md has each payload and field of RFC 7296 §3 with the test that stands for it, many of them here.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.ike.actions import Kind, Send
from ipsec_dp.ike.certificates import Credential, Trust, load_certificates
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.negotiation import with_spi
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.proposal import Proposal, ProtocolId, parse_esp, parse_ike
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import build_message, parse_message
from ipsec_dp.ike.v2.tolerance import NOTED
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.ipsec.transforms import ESN, NO_ESN, Transform

from .ladder import ESP, NETS, OTHER, Ladder, peer
from .pki import CA, NOW, OpenSsl
from .saying import events, notes, raw, says
from .test_session_attacks import Traitor, errors, taken

INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
UNKNOWN_NOTIFY = 50_000
FAREWELLS = [NotifyType.INVALID_SYNTAX, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, NotifyType.AUTHENTICATION_FAILED]


# --- items beside others --------------------------------------------------------------------------------------------------------

BESIDE = {
    "CERTREQ that is no row of hashes": (p.CertificateRequest(4, bytes(19)), "CERTREQ of encoding 4 with 19 octets"),
    "CERTREQ of an unknown encoding": (p.CertificateRequest(200, b"x"), "CERTREQ of encoding 200 with 1 octets"),
    "certificate of another encoding": (p.Certificate(12, bytes(20) + b"http://192.0.2.9/x"), "certificate of encoding 12"),
    "unknown status notify": (p.Notify(UNKNOWN_NOTIFY, b"x"), "notify type 50000"),
    "unknown status notify with an IKE SPI": (p.Notify(UNKNOWN_NOTIFY, b"x", 1, bytes(8)), "notify type 50000"),
    "unknown status notify with a long SPI": (
        p.Notify(UNKNOWN_NOTIFY, b"", 9, bytes(255)),
        "notify type 50000",
    ),
    "known status notify with an SPI": (
        p.Notify(NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED, b"", 3, bytes(4)),
        "SPI of 4 octets for protocol 3 in notify ESP_TFC_PADDING_NOT_SUPPORTED",
    ),
    "unknown payload": (raw(0xF5, b"abc"), "payload type 245"),
    "empty unknown payload": (raw(0xF5, b""), "payload type 245"),
    "empty vendor ID": (p.VendorId(b""), "vendor ID"),
    "long vendor ID": (p.VendorId(b"\n\x1b" * 300), "vendor ID 0a1b0a1b"),
    "CP request": (p.Configuration(1, ((1, b""), (3, b""), (0x7000, b"x"))), "CP payload of type 1"),
}


@pytest.mark.parametrize("sender", ["a", "b"])
@pytest.mark.parametrize("name", BESIDE)
def test_an_item_that_means_nothing_here_is_passed_over_in_every_exchange(name, sender, monkeypatch):
    """In requests and in responses, from IKE_SA_INIT on; what it was is told at debug, once for an IKE SA."""
    item, words = BESIDE[name]
    ladder = Ladder()
    says(monkeypatch, ladder.sites[sender].core, lambda _header, payloads: [*payloads, item])
    ladder.up("a")
    for site in ladder.sites.values():
        site.do(site.core.rekey(site.tunnel, ladder.clock()))
        ladder.settle()
        site.do(site.core.check_liveness(site.tunnel, ladder.clock()))
        ladder.settle()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.run(30)
    ladder.check()
    receiver = ladder.b if sender == "a" else ladder.a
    assert words in notes(receiver)
    assert all(event.text.isprintable() for event in events(receiver, Kind.NOTE))
    for site in ladder.sites.values():
        assert not {Kind.IKE_DOWN, Kind.IKE_FAILED, Kind.CHILD_DOWN, Kind.CHILD_FAILED, Kind.WARNING} & set(site.kinds())


def test_what_means_something_is_not_noted():
    ladder = Ladder().up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    assert (notes(ladder.a), notes(ladder.b)) == ("", "")


def test_an_error_that_nobody_knows_in_a_request_is_passed_over():
    """RFC 7296 §3.10.1: unrecognized error types in a request are ignored."""
    traitor = Traitor()
    answer = traitor.child(b"\0\0\x99\x99", p.Notify(8000))
    assert answer.get(p.SecurityAssociation) is not None
    assert "notify type 8000" in notes(traitor.ladder.b)


def test_notes_of_one_ike_sa_are_few():
    traitor = Traitor()
    for number in range(3 * NOTED):
        traitor.ask(INFORMATIONAL, *(p.Notify(UNKNOWN_NOTIFY + 50 * number + more) for more in range(50)))
    told = events(traitor.ladder.b, Kind.NOTE)
    assert len(told) == NOTED
    assert "and 42 more" in told[0].text


def test_a_stranger_causes_no_notes(monkeypatch):
    ladder = Ladder(b=[peer("b", remotes=())])
    says(monkeypatch, ladder.a.core, lambda _header, payloads: [*payloads, p.Notify(UNKNOWN_NOTIFY)])
    ladder.initiate("a")
    for _ in range(2):
        ladder.deliver("b")
    assert ladder.b.events == []


# --- SA -------------------------------------------------------------------------------------------------------------------------

AES, AES_CBC = Transform(1, 20, 128), Transform(1, 12, 128)
ODD_PROPOSALS = {
    "unknown protocol": Proposal(1, 77, b"abc", (AES, NO_ESN)),
    "SPI of 8 octets": Proposal(1, 3, b"\1" * 8, (AES, NO_ESN)),
    "no SPI": Proposal(1, 3, b"", (AES, NO_ESN)),
    "reserved SPI": Proposal(1, 3, b"\0\0\0\1", (AES, NO_ESN)),
    "no transforms": Proposal(1, 3, b"\0\0\x99\x98", ()),
    "unknown transform type": Proposal(1, 3, b"\0\0\x99\x98", (AES, NO_ESN, Transform(99, 1))),
    "mandatory type missing": Proposal(1, 3, b"\0\0\x99\x98", (NO_ESN,)),
    "nothing known": Proposal(1, 3, b"\0\0\x99\x98", (Transform(1, 999), Transform(5, 7))),
    "integrity beside an AEAD": Proposal(1, 3, b"\0\0\x99\x98", (AES, Transform(3, 12), NO_ESN)),
}
GOOD = with_spi(ESP, b"\0\0\x99\x99")[0]


@pytest.mark.parametrize("name", ODD_PROPOSALS)
def test_a_proposal_that_nobody_can_take_stands_beside_a_good_one(name):
    """RFC 7296 §3.3.6: the others are processed as usual, and the response has exactly one, a part of what was offered."""
    traitor = Traitor()
    nets = NETS["a"]
    ends = p.TrafficSelectorsInitiator((nets.local,)), p.TrafficSelectorsResponder((nets.remote,))

    def ask(*proposals):
        numbered = tuple(replace(one, number=number) for number, one in enumerate(proposals, 1))
        return traitor.ask(CREATE, p.SecurityAssociation(numbered), p.Nonce(bytes(32)), *ends)

    for place, offer in ((2, (ODD_PROPOSALS[name], GOOD)), (1, (replace(GOOD, spi=b"\0\0\x88\x88"), ODD_PROPOSALS[name]))):
        (chosen,) = ask(*offer).get(p.SecurityAssociation).proposals
        assert (chosen.number, chosen.protocol, len(chosen.spi)) == (place, ProtocolId.ESP, 4)
        assert set(chosen.transforms) == {AES, ESN}
    assert errors(ask(ODD_PROPOSALS[name])) == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert not traitor.ladder.b.sad.reserved
    assert len(traitor.ladder.b.core.sessions("to-a")) == 1


ODD_TRANSFORMS = {
    "unknown number": Transform(1, 999),
    "unknown attribute": Transform(1, 20, 128, ((0x8063, b"\0\1"),)),
    "Key Length as type, length and value": Transform(1, 20, None, ((14, b"\0\x80"),)),
    "Key Length of nothing": Transform(1, 20, None, ((0x800E, b"\0\0"),)),
    "Key Length twice": Transform(1, 20, 128, ((0x800E, b"\1\0"),)),
    "a length where there is none": Transform(1, 28, 256),
    "no length where there must be one": Transform(1, 20),
}


@pytest.mark.parametrize("name", ODD_TRANSFORMS)
def test_a_transform_that_nobody_can_take_stands_beside_a_good_one(name):
    """RFC 7296 §3.3.6: only that transform is unacceptable."""
    traitor = Traitor()
    for transforms in ((ODD_TRANSFORMS[name], AES, NO_ESN), (AES, ODD_TRANSFORMS[name], NO_ESN)):
        answer = traitor.child(b"\0\0\x99\x99", proposals=(Proposal(1, 3, b"", transforms),))
        (chosen,) = answer.get(p.SecurityAssociation).proposals
        assert set(chosen.transforms) == {AES, NO_ESN}
    alone = (Proposal(1, 3, b"", (ODD_TRANSFORMS[name], NO_ESN)),)
    assert errors(traitor.child(b"\0\0\x99\x99", proposals=alone)) == [NotifyType.NO_PROPOSAL_CHOSEN]


def test_the_same_holds_for_a_new_ike_sa(monkeypatch):
    """In IKE_SA_INIT and at the rekey of an IKE SA."""
    good = parse_ike(["aes128gcm16-prfsha256-x25519"])[0]
    odd = Proposal(1, 77, b"x", (AES,)), replace(good, transforms=(*good.transforms, Transform(99, 1)))

    def change(header, payloads):
        if header.exchange == AUTH or header.is_response:
            return payloads
        return [_with_proposals(one, odd) if isinstance(one, p.SecurityAssociation) else one for one in payloads]

    ladder = Ladder(a=[peer("a", ike_proposals=(good,))])
    says(monkeypatch, ladder.a.core, change)
    ladder.initiate("a")
    request = parse_message(taken(ladder, "b"))
    answers = [a for a in ladder.b.core.receive(build_message(request), ladder.path("b"), ladder.clock()) if isinstance(a, Send)]
    answer = parse_message(answers[0].datagram).get(p.SecurityAssociation)
    assert answer == p.SecurityAssociation((replace(good, number=3),))
    traitor = Traitor(Ladder().up())
    spi = b"\1" * 8
    offer = (*odd, replace(good, spi=b"\1" * 4), replace(good, spi=b""), replace(good, spi=spi))
    numbered = tuple(replace(one, number=number) for number, one in enumerate(offer, 1))
    answer = traitor.ask(CREATE, p.SecurityAssociation(numbered), p.Nonce(bytes(32)), p.KeyExchangePayload(31, b"\x09" + bytes(31)))
    (chosen,) = answer.get(p.SecurityAssociation).proposals
    assert (chosen.number, len(chosen.spi), set(chosen.transforms)) == (5, 8, set(good.transforms))


def _with_proposals(sa, odd):
    return p.SecurityAssociation(tuple(replace(one, number=number) for number, one in enumerate((*odd, *sa.proposals), 1)))


@pytest.mark.parametrize(
    "answered",
    [
        lambda ours: (*ours, replace(ours[0], number=2)),
        lambda ours: (replace(ours[0], transforms=(*ours[0].transforms, Transform(1, 20, 256))),),
        lambda ours: (replace(ours[0], spi=b"\0\0\0\1"),),
        lambda ours: (replace(ours[0], transforms=()),),
        lambda ours: (replace(ours[0], protocol=77),),
    ],
    ids=["two", "a transform more", "a reserved SPI", "none of its transforms", "another protocol"],
)
def test_a_response_holds_one_proposal_of_ours(answered, monkeypatch):
    """As initiator there is nothing to pass over: no CHILD_SA comes of another answer, and the peer's is deleted."""

    def change(header, payloads):
        if header.exchange != AUTH or not header.is_response:
            return payloads
        return [
            p.SecurityAssociation(answered(one.proposals)) if isinstance(one, p.SecurityAssociation) else one for one in payloads
        ]

    ladder = Ladder()
    says(monkeypatch, ladder.b.core, change)
    ladder.initiate("a")
    ladder.settle()
    assert not ladder.a.sad.inbound
    assert not ladder.a.sad.reserved
    assert Kind.CHILD_FAILED in ladder.a.kinds()
    assert "ab INFORMATIONAL" in ladder.messages()
    assert not ladder.b.sad.inbound


# --- IDr, CERT, TS, DELETE ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meant", [(2, b"gw\n"), (2, b"other.example"), (9, b"\x30\x84"), (200, b"x"), (11, b"\0")])
def test_idr_of_a_request_is_a_wish(meant, monkeypatch):
    """RFC 7296 §2.15, §3.5: whoever answers says who he is, whatever was hoped for."""

    def change(_header, payloads):
        return [p.IdentificationResponder(*meant) if isinstance(one, p.IdentificationResponder) else one for one in payloads]

    ladder = Ladder()
    says(monkeypatch, ladder.a.core, change)
    ladder.up()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("root", "/O=Org/CN=Root", extensions=CA)
    for name in ("gwa", "gwb"):
        openssl.certificate(name, f"/O=Org/CN={name}", "root", f"subjectAltName=DNS:{name}.example")
    return openssl


@pytest.mark.parametrize("alone", [False, True])
def test_certificates_of_other_encodings_beside_a_good_one(alone, pki, monkeypatch):
    """RFC 7296 §3.6. By themselves they are refused, and a URL is never fetched."""
    trust = Trust(load_certificates(pki.path("root.crt")))
    sites = {
        site: [peer(site, auth=SignatureAuth(Credential.from_files(pki.path(f"gw{site}.crt"), pki.path(f"gw{site}.key")), trust))]
        for site in "ab"
    }
    others = p.Certificate(12, bytes(20) + b"http://192.0.2.9/x"), p.Certificate(11, b"\x30\x00"), p.Certificate(7, b"crl")

    def change(header, payloads):
        if header.exchange != AUTH:
            return payloads
        return [*others, *(one for one in payloads if not (alone and isinstance(one, p.Certificate))), p.Certificate(200, b"x")]

    ladder = Ladder(**sites, epoch=NOW)
    says(monkeypatch, ladder.a.core, change)
    ladder.initiate("a")
    ladder.settle()
    if alone:
        assert "certificate encoding 7, 11, 12, 200 is not admitted" in events(ladder.b, Kind.IKE_FAILED)[0].text
    else:
        ladder.check()
        assert "certificate of encoding 11" in notes(ladder.b)


def spoil(octets):
    """No X.509 any more, of the same length."""
    return octets[:4] + bytes(len(octets) - 4)


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("alone", [False, True])
def test_what_is_no_x509_beside_a_good_certificate(alone, site, pki, monkeypatch):
    """RFC 7296 §3.6, in both roles, wherever it stands. By itself it is refused."""
    trust = Trust(load_certificates(pki.path("root.crt")))
    sites = {
        one: [peer(one, auth=SignatureAuth(Credential.from_files(pki.path(f"gw{one}.crt"), pki.path(f"gw{one}.key")), trust))]
        for one in "ab"
    }
    bad = p.Certificate(4, spoil(sites["a"][0].auth.credential.encoded()[0])), p.Certificate(4, b"x")

    def change(header, payloads):
        if header.exchange != AUTH:
            return payloads
        return [bad[0], *(one for one in payloads if not (alone and isinstance(one, p.Certificate))), bad[1]]

    ladder = Ladder(**sites, epoch=NOW)
    says(monkeypatch, ladder.sites[site].core, change)
    ladder.initiate("a")
    ladder.settle()
    hearer = ladder.sites[OTHER[site]]
    if alone:
        assert "the peer sent a certificate that is no X.509" in events(hearer, Kind.IKE_FAILED)[0].text
    else:
        ladder.check()
        assert notes(hearer).count("a certificate that is no X.509") == 1


class MoreSelectors(p.TrafficSelectorsInitiator):
    """Types that nobody knows, of any length, around those that it has."""

    def build(self, writer):
        inner = type(writer)()
        super().build(inner)
        octets = inner.take()
        for part in (bytes([octets[0] + 2, 0, 0, 0]), bytes([10, 0, 0, 6, 1, 2]), octets[4:], bytes([241, 17, 0, 4])):
            writer.octets(part)


def test_selectors_of_unknown_types_beside_good_ones(monkeypatch):
    """RFC 7296 §3.13.1, §2.9: narrowing leaves them out."""

    def change(_header, payloads):
        return [MoreSelectors(one.selectors) if isinstance(one, p.TrafficSelectorsInitiator) else one for one in payloads]

    ladder = Ladder()
    says(monkeypatch, ladder.a.core, change)
    ladder.up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    ladder.check()
    assert "traffic selector of type 10, traffic selector of type 241" in notes(ladder.b)


def test_a_delete_of_what_nobody_knows_stands_beside_a_good_one():
    """RFC 7296 §1.4.1, §3.11: an unknown protocol has no SA, an unknown SPI is none of ours, and neither gets an answer."""
    traitor = Traitor()
    (outbound,) = traitor.ladder.b.sad.outbound.values()
    strange = (
        p.Delete(77, (bytes(8), b"\1" * 8)),
        p.Delete(77),
        p.Delete(ProtocolId.AH, (bytes(4),)),
        p.Delete(ProtocolId.ESP, (b"\xee\xee\xee\xee",)),
    )
    assert traitor.ask(INFORMATIONAL, *strange).payloads == ()
    assert len(traitor.ladder.b.sad.inbound) == 1
    answer = traitor.ask(INFORMATIONAL, *strange, p.Delete(ProtocolId.ESP, (outbound.spi.to_bytes(4, "big"),)))
    assert [payload.spis for payload in answer.all(p.Delete)] == [((0x1000).to_bytes(4, "big"),)]
    assert "DELETE for protocol 77" in notes(traitor.ladder.b)


# --- identities ---


def test_an_identity_that_is_refused_is_shown_on_both_sides():
    odd = Identity.from_wire(11, b"a\nb")
    ladder = Ladder(a=[peer("a", local_id=odd)], b=[peer("b", esp_proposals=parse_esp(["aes128gcm16"]))])
    ladder.initiate("a")
    ladder.settle()
    assert f"expected gwa.example; the peer says it is {odd}" in events(ladder.b, Kind.IKE_FAILED)[0].text
    assert f"({odd}, expecting gwb.example)" in events(ladder.a, Kind.IKE_FAILED)[0].text
