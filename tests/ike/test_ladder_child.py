"""CHILD_SAs as message ladders: narrowing, several proxy IDs, PFS, what is declined, on demand."""

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.proposal import parse_esp

from .ladder import Ladder, packet, peer, proxy_id

TWO_A = (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.1.0/24", "10.2.1.0/24"))
TWO_B = (proxy_id("10.2.0.0/24", "10.1.0.0/24"), proxy_id("10.2.1.0/24", "10.1.1.0/24"))


def shown(site):
    """What a site's CHILD_SAs that send let through, as text."""
    return sorted(
        f"{pair.local_text} <-> {pair.remote_text}" for child in site.sad.sending for pair in site.sad.inbound[child].selectors
    )


def test_the_responder_narrows_and_both_sides_install_the_same():
    wide = proxy_id("10.0.0.0/8", "10.0.0.0/8")
    ladder = Ladder(a=[peer("a", proxy_ids=(wide,))], b=[peer("b", proxy_ids=(proxy_id("10.2.0.0/24", "10.1.0.0/24"),))]).up()
    assert shown(ladder.a) == ["10.1.0.0/24 <-> 10.2.0.0/24"]
    assert shown(ladder.b) == ["10.2.0.0/24 <-> 10.1.0.0/24"]


def test_several_proxy_ids_are_one_child_sa_where_the_peer_takes_several():
    ladder = Ladder(a=[peer("a", proxy_ids=TWO_A)], b=[peer("b", proxy_ids=TWO_B)]).up()
    assert len(ladder.messages()) == 4
    assert len(ladder.a.sad.sending) == 1


def test_selectors_multiply_on_the_wire_but_only_what_is_configured_is_installed():
    """TSi and TSr hold 2 × 2 pairs; two of them were never configured (RFC 4301 §4.4.1)."""
    ladder = Ladder(a=[peer("a", proxy_ids=TWO_A)], b=[peer("b", proxy_ids=TWO_B)]).up()
    assert shown(ladder.a) == ["10.1.0.0/24 <-> 10.2.0.0/24", "10.1.1.0/24 <-> 10.2.1.0/24"]
    assert shown(ladder.b) == ["10.2.0.0/24 <-> 10.1.0.0/24", "10.2.1.0/24 <-> 10.1.1.0/24"]


def test_a_peer_that_narrows_to_one_pair_gets_a_child_sa_for_each_proxy_id():
    # A knows both, B one after the other: two tunnels of B's are two policies, of which IKE_AUTH takes the first
    ladder = Ladder(a=[peer("a", proxy_ids=TWO_A, start="start")], b=[peer("b", proxy_ids=TWO_B[:1])])
    ladder.initiate("a")
    # IKE_SA_INIT, IKE_AUTH; <-- narrowed to the first pair
    # CREATE_CHILD_SA for the second -->, <-- TS_UNACCEPTABLE
    ladder.settle()
    ladder.check()
    assert ladder.messages()[4:] == ["ab CREATE_CHILD_SA", "ba CREATE_CHILD_SA-"]
    failed = [event for event in ladder.a.events if event.kind is Kind.CHILD_FAILED]
    assert [event.cause for event in failed] == [Cause.SELECTORS]
    assert "10.1.1.0/24 <-> 10.2.1.0/24" in failed[0].text


def test_selectors_that_have_nothing_in_common_are_explained_on_both_sides():
    ladder = Ladder(a=[peer("a", proxy_ids=(proxy_id("10.7.0.0/24", "10.8.0.0/24"),))])
    ladder.initiate("a")
    ladder.run(60)
    told = next(event for event in ladder.b.events if event.kind is Kind.CHILD_FAILED)
    assert told.cause is Cause.SELECTORS
    for words in ("ours: local 10.2.0.0/24 remote 10.1.0.0/24", "peer's: local 10.8.0.0/24 remote 10.7.0.0/24", "no common local"):
        assert words in told.text
    assert "10.7.0.0/24 <-> 10.8.0.0/24" in next(event for event in ladder.a.events if event.kind is Kind.CHILD_FAILED).text
    assert not ladder.a.sad.reserved
    assert ladder.a.core.counters().sessions == 0  # the initiator gives an IKE SA up that carries nothing


def test_esp_proposals_that_have_nothing_in_common_are_explained():
    ladder = Ladder(a=[peer("a", esp_proposals=parse_esp(["aes256gcm16"]))])
    ladder.initiate("a")
    ladder.settle()
    told = next(event for event in ladder.b.events if event.kind is Kind.CHILD_FAILED)
    assert told.cause is Cause.PROPOSAL
    assert "ours: aes128gcm16-esn/noesn; peer's: aes256gcm16-noesn" in told.text
    assert "aes256gcm16" in next(event for event in ladder.a.events if event.kind is Kind.CHILD_FAILED).text


@pytest.mark.parametrize(
    ("a", "b", "esn"), [("esn-noesn", "noesn", False), ("noesn", "esn-noesn", False), ("esn-noesn", "esn", True)]
)
def test_extended_sequence_numbers_are_negotiated(a, b, esn):
    proposals = [parse_esp([f"aes128gcm16-{words}"]) for words in (a, b)]
    ladder = Ladder(a=[peer("a", esp_proposals=proposals[0])], b=[peer("b", esp_proposals=proposals[1])]).up()
    assert [site.status[0].children[0].esn for site in ladder.sites.values()] == [esn, esn]


def test_pfs_negotiates_its_own_group_and_follows_the_responders_wish():
    esp_a, esp_b = parse_esp(["aes128gcm16-x25519-ecp256"]), parse_esp(["aes128gcm16-ecp256"])
    ladder = Ladder(a=[peer("a", esp_proposals=esp_a)], b=[peer("b", esp_proposals=esp_b)]).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    # CREATE_CHILD_SA with x25519 -->, <-- INVALID_KE_PAYLOAD: ecp256
    # CREATE_CHILD_SA with ecp256 -->, <-- CREATE_CHILD_SA
    # INFORMATIONAL: DELETE -->, <-- INFORMATIONAL
    ladder.settle()
    ladder.check()
    assert [m.split()[1] for m in ladder.messages("a")[2:]] == ["CREATE_CHILD_SA", "CREATE_CHILD_SA", "INFORMATIONAL"]
    assert Kind.CHILD_REKEYED in ladder.a.kinds()


def test_a_packets_selectors_go_first_and_the_packet_finds_its_sa():
    wide = (proxy_id("10.1.0.0/16", "10.2.0.0/16"),)
    ladder = Ladder(a=[peer("a", proxy_ids=wide)])
    ladder.initiate("a", asks=packet("10.1.0.9", "10.2.0.9"))
    ladder.settle()
    ladder.check()
    assert shown(ladder.a) == ["10.1.0.0/24 <-> 10.2.0.0/24"]


def test_acquire_asks_for_the_proxy_id_of_the_packet_once():
    two_b = Ladder(a=[peer("a", proxy_ids=TWO_A)], b=[peer("b", proxy_ids=TWO_B)])
    assert two_b.a.core.acquire("to-b", packet("10.1.1.7", "10.2.1.7"), two_b.clock()) is None  # nothing there: initiate is needed
    ladder = Ladder(a=[peer("a", proxy_ids=TWO_A)], b=[peer("b", proxy_ids=TWO_B[:1])])
    ladder.initiate("a", asks=packet("10.1.0.7", "10.2.0.7"))
    ladder.settle()
    ladder.b.core.set_peers([peer("b", proxy_ids=TWO_B)])  # of no avail to the IKE SA that is there
    asking = packet("10.1.1.7", "10.2.1.7")
    ladder.a.do(ladder.a.core.acquire("to-b", asking, ladder.clock()))
    ladder.a.do(ladder.a.core.acquire("to-b", asking, ladder.clock()))  # the next packet of the same burst
    ladder.settle()
    assert ladder.messages("a")[2:] == ["ab CREATE_CHILD_SA"]


def test_a_packet_that_has_its_sa_asks_for_nothing():
    ladder = Ladder().up()
    ladder.a.do(ladder.a.core.acquire("to-b", packet("10.1.0.7", "10.2.0.7"), ladder.clock()))
    assert len(ladder.messages()) == 4


def test_deleting_a_child_sa_leaves_the_ike_sa():
    ladder = Ladder().up()
    (child,) = ladder.a.sad.sending
    # INFORMATIONAL: DELETE -->, <-- INFORMATIONAL: DELETE
    ladder.a.do(ladder.a.core.delete_child("to-b", child, ladder.clock()))
    ladder.run(30)
    for site in ladder.sites.values():
        assert not site.sad.inbound
        assert len(site.ups) == 1
    assert ladder.b.events[-1].kind is Kind.CHILD_DOWN
    assert ladder.b.events[-1].cause is Cause.PEER
