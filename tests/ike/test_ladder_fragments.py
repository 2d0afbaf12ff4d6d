"""NON_FIRST_FRAGMENTS_ALSO as message ladders: offered and answered where selectors ask for ports, a property of each CHILD_SA
(RFC 7296 §1.3.1, RFC 4301 §7.3)."""

from dataclasses import replace

import pytest

from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector, ask_ports
from ipsec_dp.ike.v2 import child_create, child_offer, child_respond
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import NotifyType

from .ladder import NETS, OTHER, Ladder, packet, peer

SIDES = ["a", "b"]
UDP, ICMP, ICMPV6, MOBILITY = 17, 1, 58, 135


def bounded(site, protocol=UDP, ports=(5000, 5000), nets=("10.1.0.0/24", "10.2.0.0/24")):
    """The proxy ID of `site` in which b's end has these ports."""
    ends = [TrafficSelector.from_prefix(nets[0], protocol), TrafficSelector.from_prefix(nets[1], protocol, ports)]
    return ProxyId(*(ends if site == "a" else reversed(ends)))


def ladder_of(*pairs_a, **kept):
    """Both sites with these proxy IDs of a, mirrored at b."""
    pairs_b = tuple(ProxyId(pair.remote, pair.local) for pair in pairs_a)
    return Ladder(a=[peer("a", proxy_ids=pairs_a, **kept)], b=[peer("b", proxy_ids=pairs_b, **kept)])


def agreed(ladder):
    """What each site installed of every CHILD_SA that sends: (inbound, outbound), a's first."""
    return [
        (site.sad.inbound[child].fragments_also, site.sad.outbound[child].fragments_also)
        for site in ladder.sites.values()
        for child in site.sad.sending
    ]


ALL, NONE = [(True, True)] * 2, [(False, False)] * 2


@pytest.mark.parametrize("site", SIDES)
@pytest.mark.parametrize(
    "pair",
    [
        bounded("a"),
        bounded("a", ports=(1024, 65535)),
        bounded("a", ICMP, (0x0800, 0x08FF)),
        bounded("a", ICMPV6, (0x8000, 0x80FF), ("2001:db8:1::/64", "2001:db8:2::/64")),
        bounded("a", MOBILITY, (0x0500, 0x0500), ("2001:db8:1::/64", "2001:db8:2::/64")),
    ],
    ids=["one port", "a range", "an ICMP type", "an ICMPv6 type", "a mobility header type"],
)
def test_both_agree_in_the_first_exchange_whoever_begins(site, pair):
    assert agreed(ladder_of(pair).up(site)) == ALL


@pytest.mark.parametrize("site", SIDES)
@pytest.mark.parametrize("pair", [NETS["a"], bounded("a", ports=(0, 65535))], ids=["anything", "a protocol"])
def test_where_no_selector_asks_for_ports_there_is_nothing_to_agree(site, pair):
    assert agreed(ladder_of(pair).up(site)) == NONE


@pytest.mark.parametrize("site", SIDES)
def test_a_packet_that_asks_for_an_sa_offers_nothing_of_it(site):
    """Its ports go first in TSi and TSr; what is configured is for any ports."""
    ladder = Ladder()
    ends = ("10.1.0.9", "10.2.0.9") if site == "a" else ("10.2.0.9", "10.1.0.9")
    ladder.initiate(site, asks=packet(*ends))
    ladder.settle()
    assert agreed(ladder) == NONE


@pytest.mark.parametrize("site", SIDES)
def test_create_child_sa_agrees_on_it_anew(site):
    ladder = ladder_of(bounded("a")).up()
    who = ladder.sites[site]
    (child,) = who.sad.sending
    who.do(who.core.delete_child(who.tunnel, child, ladder.clock()))
    ladder.run(30)
    assert agreed(ladder) == []
    ports = (1000, 5000) if site == "a" else (5000, 1000)
    hosts = {"a": "10.1.0.7", "b": "10.2.0.7"}
    wanted = packet(hosts[site], hosts[OTHER[site]], ports=ports)
    who.do(who.core.acquire(who.tunnel, wanted, ladder.clock()))
    ladder.settle()
    assert agreed(ladder) == ALL


@pytest.mark.parametrize("site", SIDES)
def test_one_selector_for_ports_among_others_is_enough(site):
    assert agreed(ladder_of(NETS["a"], bounded("a", nets=("10.1.1.0/24", "10.2.1.0/24"))).up(site)) == ALL


@pytest.mark.parametrize("site", SIDES)
def test_a_rekey_carries_it_on(site):
    """CREATE_CHILD_SA with REKEY_SA offers and answers it again; a rekey of the IKE SA leaves CHILD_SAs as they are."""
    ladder = ladder_of(bounded("a")).up()
    who = ladder.sites[site]
    for ike in (False, True, False):
        who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=ike))
        ladder.run(100)
        ladder.check()
        assert agreed(ladder) == ALL
        who = ladder.sites[OTHER[who.name]]


def never(*_):
    return False


@pytest.mark.parametrize("site", SIDES)
def test_a_peer_that_does_not_answer_has_not_agreed(site, monkeypatch):
    """strongSwan and Libreswan ignore the notify, as any that they do not know (RFC 7296 §3.10.1)."""
    monkeypatch.setattr(child_respond, "ask_ports", never)
    ladder = ladder_of(bounded("a")).up(site)
    assert agreed(ladder) == NONE
    monkeypatch.setattr(child_respond, "ask_ports", ask_ports)
    who = ladder.sites[site]
    who.do(who.core.rekey(who.tunnel, ladder.clock()))
    ladder.run(100)
    assert agreed(ladder) == ALL, "what counts is each exchange"


@pytest.mark.parametrize("site", SIDES)
def test_a_peer_that_does_not_ask_gets_no_answer(site, monkeypatch):
    monkeypatch.setattr(child_offer.Offer, "wants_fragments", property(never))
    assert agreed(ladder_of(bounded("a")).up(site)) == NONE


@pytest.mark.parametrize("site", SIDES)
def test_what_was_not_offered_cannot_be_agreed_to(site, monkeypatch):
    """A peer that answers what nobody asked, for selectors that it narrowed to ports."""
    monkeypatch.setattr(child_offer.Offer, "wants_fragments", property(never))
    ladder = ladder_of(bounded("a"))
    whole = child_respond.answer_first

    def answers_anyway(context, received):
        return [Notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO), *whole(context, received)]

    monkeypatch.setattr(child_respond, "answer_first", answers_anyway)
    assert agreed(ladder.up(site)) == NONE


def test_the_offer_says_so_by_one_notify():
    offers = [child_offer.Offer(1, (), (pair.local,), (pair.remote,), (pair,)) for pair in (bounded("a"), NETS["a"])]
    assert [offer.notifies for offer in offers] == [[Notify(16395)], []]
    assert not replace(bounded("a").remote, start_port=65535, end_port=0).asks_ports, "OPAQUE is for later fragments alone"


# ---- an SA for later fragments alone (RFC 4301 §7.2)

HIDDEN = (65535, 0)


def opaque(nets=("10.1.0.0/24", "10.2.0.0/24"), protocol=UDP):
    """The proxy ID of a for later fragments."""
    ends = (replace(TrafficSelector.from_prefix(net, protocol), start_port=HIDDEN[0], end_port=HIDDEN[1]) for net in nets)
    return ProxyId(*ends)


def carried(ladder, site="a"):
    """The selectors of each CHILD_SA that sends, as the data plane has them."""
    sad = ladder.sites[site].sad
    return {tuple(pair.local_text for pair in sad.inbound[child].selectors) for child in sad.sending}


SHOWN = ("10.1.0.0/24[17/any]",)
LATER = ("10.1.0.0/24[17/opaque]",)


@pytest.mark.parametrize("site", SIDES)
def test_later_fragments_get_an_sa_of_their_own(site):
    ladder = ladder_of(bounded("a"), opaque()).up(site)
    ladder.run(30)
    assert carried(ladder) == {SHOWN, LATER}
    assert agreed(ladder) == NONE * 2, "there is nothing to agree on"


@pytest.mark.parametrize("site", SIDES)
def test_the_order_does_not_matter(site):
    ladder = ladder_of(opaque(), bounded("a")).up(site)
    ladder.run(30)
    assert carried(ladder) == {SHOWN, LATER}


@pytest.mark.parametrize("site", SIDES)
def test_a_rekey_keeps_each_as_it_is(site):
    ladder = ladder_of(bounded("a"), opaque()).up(site)
    ladder.run(30)
    who = ladder.sites[site]
    who.do(who.core.rekey(who.tunnel, ladder.clock()))
    ladder.run(100)
    ladder.check()
    assert carried(ladder) == {SHOWN, LATER}


@pytest.mark.parametrize("site", SIDES)
def test_a_later_fragment_asks_for_its_own(site):
    """Whoever has no SA yet: the first exchange makes the one that the packet is for, and no other."""
    ladder = ladder_of(bounded("a"), opaque(), start="trap")
    ends = ("10.1.0.9", "10.2.0.9") if site == "a" else ("10.2.0.9", "10.1.0.9")
    ladder.initiate(site, asks=packet(*ends, ports=(65536, 65536)))
    ladder.settle()
    assert {ports for pair in carried(ladder) for ports in pair} <= {*LATER, "10.1.0.9/32[17/opaque]"}
    who = ladder.sites[site]
    shown = (1000, 5000) if site == "a" else (5000, 1000)
    who.do(who.core.acquire(who.tunnel, packet(*ends, ports=shown), ladder.clock()))
    ladder.settle()
    assert len(carried(ladder)) == 2


@pytest.mark.parametrize("site", SIDES)
def test_one_for_any_ports_takes_later_fragments_too(site):
    """And asks for no other, as a peer that knows OPAQUE for itself alone would refuse it."""
    ladder = Ladder()
    ends = ("10.1.0.9", "10.2.0.9") if site == "a" else ("10.2.0.9", "10.1.0.9")
    ladder.initiate(site, asks=packet(*ends, ports=(65536, 65536)))
    ladder.settle()
    assert not any("opaque" in text for pair in carried(ladder) for text in pair)
    assert len(carried(ladder)) == 1


@pytest.mark.parametrize("site", SIDES)
def test_a_peer_for_any_ports_makes_none_for_later_fragments(site):
    """OPAQUE meets OPAQUE alone; the SA with ports is up all the same."""
    other = bounded("b", ports=(0, 65535))
    ladder = Ladder(a=[peer("a", proxy_ids=(bounded("a"), opaque()))], b=[peer("b", proxy_ids=(other,))])
    ladder.up(site)
    ladder.run(30)
    assert carried(ladder) == {SHOWN}


def both_at_once(context, pairs, packet, *, in_auth):
    """The offer of a peer that puts ports and OPAQUE into one CHILD_SA."""
    made = make_offer(context, pairs, packet, in_auth=in_auth)
    assert made is not None
    sides = zip(*pairs, strict=True)
    local, remote = (tuple(dict.fromkeys(side)) for side in sides)
    return replace(made, ts_local=local, ts_remote=remote, pairs=pairs)


make_offer = child_offer.make_offer


@pytest.mark.parametrize("first", ["ports", "opaque"])
def test_of_both_in_one_offer_those_of_the_first_kind_are_taken(monkeypatch, first):
    for module in (child_offer, child_create):
        monkeypatch.setattr(module, "make_offer", both_at_once)
    pairs = (bounded("a"), opaque())[:: 1 if first == "ports" else -1]
    ladder = ladder_of(*pairs, start="trap")
    ladder.initiate("a")
    ladder.settle()
    assert (SHOWN if first == "ports" else LATER) in carried(ladder, "a")
    assert all(len({"opaque" in text for text in pair}) == 1 for pair in carried(ladder, "a"))
