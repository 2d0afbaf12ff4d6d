"""NON_FIRST_FRAGMENTS_ALSO as message ladders: offered and answered where selectors ask for ports, a property of each CHILD_SA
(RFC 7296 §1.3.1, RFC 4301 §7.3)."""

from dataclasses import replace

import pytest

from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector, ask_ports
from ipsec_dp.ike.v2 import child_create, child_respond
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
    monkeypatch.setattr(child_create.Offer, "wants_fragments", property(never))
    assert agreed(ladder_of(bounded("a")).up(site)) == NONE


@pytest.mark.parametrize("site", SIDES)
def test_what_was_not_offered_cannot_be_agreed_to(site, monkeypatch):
    """A peer that answers what nobody asked, for selectors that it narrowed to ports."""
    monkeypatch.setattr(child_create.Offer, "wants_fragments", property(never))
    ladder = ladder_of(bounded("a"))
    whole = child_respond.answer_first

    def answers_anyway(context, received):
        return [Notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO), *whole(context, received)]

    monkeypatch.setattr(child_respond, "answer_first", answers_anyway)
    assert agreed(ladder.up(site)) == NONE


def test_the_offer_says_so_by_one_notify():
    offers = [child_create.Offer(1, (), (pair.local,), (pair.remote,), (pair,)) for pair in (bounded("a"), NETS["a"])]
    assert [offer.notifies for offer in offers] == [[Notify(16395)], []]
    assert replace(bounded("a").remote, start_port=65535, end_port=0).asks_ports, "OPAQUE is no port at all"
