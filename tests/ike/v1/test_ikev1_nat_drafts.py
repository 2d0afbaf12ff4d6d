"""NAT-T before RFC 3947, draft-02 and draft-03: other numbers for the same, for peers that know nothing newer (both roles)."""

import pytest

from ipsec_dp.ike.v1 import vendors
from ipsec_dp.ike.v1.message import parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.payloads import VendorIdPayload
from ipsec_dp.ike.v1.wire import HEADER, PayloadKind

from .gateways import Gateways, peer
from .test_ikev1_main_mode import behind_nat

DRAFT, RFC = 61443, 3
IDS = ["draft-03", "draft-02 with a newline", "draft-02"]


def kinds(gateways, number):
    """The payloads of a message of main mode in clear."""
    datagram = gateways.wire.log[number - 1][0].data[0]
    header, first = parse_isakmp_header(datagram)
    return [payload.type for payload in parse_payloads(header, first, datagram[HEADER:]).payloads]


def knows_only(monkeypatch, draft):
    """An initiator of before RFC 3947."""
    monkeypatch.setattr(vendors, "offered", lambda _: [VendorIdPayload(draft.octets)])


def modes(gateways):
    """The encapsulation mode in the octets of each quick mode that was sent, whoever reads it."""
    found = []
    choose = {DRAFT.to_bytes(2, "big"): DRAFT, RFC.to_bytes(2, "big"): RFC, (1).to_bytes(2, "big"): 1}
    for datagram in gateways:
        at = datagram.find(b"\x80\x04")
        found.append(choose.get(datagram[at + 2 : at + 4]))
    return found


@pytest.fixture
def offered(monkeypatch):
    """The encapsulation modes that were offered, in their order."""
    from ipsec_dp.ike.v1 import offers

    seen, offer = [], offers.phase2_offer

    def noting(suites, spi, mode, life):
        seen.append(int(mode))
        return offer(suites, spi, mode, life)

    monkeypatch.setattr(offers, "phase2_offer", noting)
    return seen


@pytest.mark.parametrize("draft", vendors.DRAFTS, ids=IDS)
def test_a_peer_of_a_draft_gets_its_numbers(draft, monkeypatch, offered):
    """Behind a NAT: NAT-D by 130, the float at message 5, encapsulation by 61443, whoever asks for phase 2."""
    knows_only(monkeypatch, draft)
    gateways = behind_nat(Gateways()).start("a")
    gateways.check()
    assert kinds(gateways, 2)[1:] == [PayloadKind.VENDOR_ID]
    assert draft.octets in gateways.wire.log[1][0].data[0]
    for number in (3, 4):
        assert kinds(gateways, number).count(PayloadKind.NAT_D_DRAFT) == 2
        assert PayloadKind.NAT_D not in kinds(gateways, number)
    assert [delivery.data[1].remote.port for delivery, _ in gateways.wire.log if delivery.sender == "a"][:3] == [500, 500, 4500]
    assert [status.nat for status in (*gateways.a.status, *gateways.b.status)] == ["local", "remote"]
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [True, True]
    gateways.b.do(gateways.b.core.rekey("to-a", gateways.clock()))
    gateways.run(30)
    gateways.check()
    assert offered == [DRAFT, DRAFT]


def test_the_rfc_is_preferred_where_both_know_it(offered):
    gateways = behind_nat(Gateways()).start("a")
    assert kinds(gateways, 1).count(PayloadKind.VENDOR_ID) == 6
    assert vendors.NAT_T.octets in gateways.wire.log[1][0].data[0]
    assert not any(one.octets in gateways.wire.log[1][0].data[0] for one in vendors.DRAFTS)
    assert kinds(gateways, 3).count(PayloadKind.NAT_D) == 2
    assert offered == [RFC]


@pytest.mark.parametrize("draft", vendors.DRAFTS, ids=IDS)
def test_a_responder_of_a_draft_chooses_it(draft, monkeypatch, offered):
    """It answers with the one that it knows of those that we offer."""
    monkeypatch.setattr(vendors, "NAT_T", vendors.KnownVendor(b"of the future", "unknown"))
    monkeypatch.setattr(vendors, "DRAFTS", (draft,))
    gateways = behind_nat(Gateways()).start("a")
    gateways.check()
    assert kinds(gateways, 3).count(PayloadKind.NAT_D_DRAFT) == 2
    assert offered == [DRAFT]


@pytest.mark.parametrize("mode", [DRAFT, RFC])
def test_either_number_means_udp_on_receipt(mode):
    """Some peers keep to the old number under the new NAT-T: it is sent back as it came."""
    from ipsec_dp.ike.v1 import offers
    from ipsec_dp.ike.v1.registry import suites_phase2
    from ipsec_dp.ike.v1.wire import EncapsulationMode, Phase2

    suites = suites_phase2(peer("a").esp_proposals)
    offered = offers.phase2_offer(suites, b"\0\0\x20\0", EncapsulationMode(mode), peer("a").child_life)
    for ours in (EncapsulationMode.UDP_TUNNEL, EncapsulationMode.UDP_TUNNEL_DRAFT):
        choice = offers.phase2_select(suites, ours, offered)
        assert choice is not None
        (transform,) = choice.proposal.transforms
        assert transform.numbers()[Phase2.ENCAPSULATION] == (mode,)
        assert offers.phase2_accept(suites, ours, offered).suite == choice.suite
    assert offers.phase2_select(suites, EncapsulationMode.TUNNEL, offered) is None


@pytest.mark.parametrize("draft", vendors.DRAFTS, ids=IDS)
def test_nat_d_by_the_other_number_is_none(draft, monkeypatch):
    """What was agreed on counts: no NAT is seen in payloads of another version, and none is missed in silence."""
    knows_only(monkeypatch, draft)
    from ipsec_dp.ike.v1 import main_mode
    from ipsec_dp.ike.v1.payloads import NatDPayload

    gateways = behind_nat(Gateways())
    gateways.initiate("a")
    gateways.deliver("b")
    monkeypatch.setattr(main_mode, "NatDDraftPayload", NatDPayload)
    gateways.deliver("a")
    monkeypatch.undo()
    gateways.settle()
    assert gateways.b.status == () or gateways.b.status[0].nat == "none"


@pytest.mark.parametrize("forces", ["a", "b"])
@pytest.mark.parametrize("draft", vendors.DRAFTS, ids=IDS)
def test_encapsulation_is_forced_by_either_side_with_a_draft_too(draft, forces, monkeypatch, offered):
    knows_only(monkeypatch, draft)
    gateways = Gateways(**{forces: [peer(forces, encapsulation="udp")]}).start("a")
    gateways.check()
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [True, True]
    assert gateways.wire.log[4][0].data[1].remote.port == 4500
    assert offered == [DRAFT]
