"""Quick mode as ladders: suites, PFS, proxy IDs, the renewal of phase 2 and its limits."""

from math import inf
from typing import Any

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.lifetimes import GRACE
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v1.ipsec_sas import OVERLAP
from tests.ike.ladder import NETS, OTHER, proxy_id

from .gateways import MIRRORED, THREE, Gateways, peer, texts


@pytest.mark.parametrize("esp", ["aes128gcm16-ecp256", "aes256-sha256-modp2048", "aes128-sha1", "aes256gcm16-esn"])
@pytest.mark.parametrize("site", ["a", "b"])
def test_suites_with_and_without_pfs(esp, site):
    proposals = parse_esp([esp])
    gateways = Gateways([peer("a", esp_proposals=proposals)], [peer("b", esp_proposals=proposals)]).start(site)
    gateways.check()
    (child,) = gateways.a.status[0].children
    assert child.esn == esp.endswith("-esn")


def test_without_pfs_on_one_side_the_other_says_so():
    gateways = Gateways(a=[peer("a", esp_proposals=parse_esp(["aes128gcm16-ecp256"]))]).start()
    assert any(text.endswith("differs: PFS (ours none, peer's ecp256)") for text in texts(gateways.b, Kind.CHILD_FAILED))
    assert "aes128gcm16-ecp256-udp-tunnel" in texts(gateways.a, Kind.CHILD_FAILED)[0]


@pytest.mark.parametrize("site", ["a", "b"])
def test_each_proxy_id_has_a_quick_mode(site):
    gateways = Gateways([peer("a", proxy_ids=THREE)], [peer("b", proxy_ids=MIRRORED)]).start(site)
    gateways.run(30)
    gateways.check()
    assert len(gateways.a.sad.sending) == len(gateways.b.sad.sending) == 3
    assert len([mode for mode in gateways.modes() if "quick" in mode]) == 9


FORMS: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "hosts": (("10.1.0.7/32", "10.2.0.9/32"), {}),
    "everything": (("0.0.0.0/0", "0.0.0.0/0"), {}),
    "IPv6": (("2001:db8:1::/48", "2001:db8:2::1/128"), {}),
    "a protocol": (("10.1.0.0/24", "10.2.0.0/24"), {"protocol": 6}),
    "a protocol and a port": (("10.1.0.0/24", "10.2.0.0/24"), {"protocol": 17, "ports": (53, 53)}),
}


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_proxy_id_in_both_roles(form, site):
    pair = proxy_id(*FORMS[form][0], **FORMS[form][1])
    mirrored = pair._replace(local=pair.remote, remote=pair.local)
    gateways = Gateways([peer("a", proxy_ids=(pair,))], [peer("b", proxy_ids=(mirrored,))]).start(site)
    gateways.check()


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_range_of_addresses_in_both_roles(site):
    span = TrafficSelector(4, 0x0A010005, 0x0A010009)
    pair = NETS["a"]._replace(local=span)
    gateways = Gateways([peer("a", proxy_ids=(pair,))], [peer("b", proxy_ids=(NETS["b"]._replace(remote=span),))]).start(site)
    gateways.check()


@pytest.mark.parametrize("site", ["a", "b"])
def test_proxy_ids_that_differ_are_told_with_both_and_the_part(site):
    gateways = Gateways(b=[peer("b", proxy_ids=(proxy_id("10.2.0.0/16", "10.1.0.0/24"),))])
    gateways.initiate(site)
    gateways.run(10)
    other = gateways.sites[OTHER[site]]
    ours, theirs = (
        ("10.2.0.0/16 <-> 10.1.0.0/24", "10.2.0.0/24 <-> 10.1.0.0/24")
        if site == "a"
        else (str(NETS["a"]), "10.1.0.0/24 <-> 10.2.0.0/16")
    )
    part = "local" if site == "a" else "remote"
    said = f"the peer's proxy IDs are not ours: ours: {ours}; the peer's: {theirs}; differs from {ours} in {part} addresses: "
    assert texts(other, Kind.CHILD_FAILED)[0] == said + "IKEv1 wants the very same on both sides, mirrored (proxy_id here)"
    assert "the peer has other proxy IDs than ours" in texts(gateways.sites[site], Kind.CHILD_FAILED)[0]
    assert not other.sad.log
    assert not gateways.sites[site].sad.reserved


def test_the_shorter_life_counts_and_the_initiator_hears_of_it():
    gateways = Gateways(b=[peer("b", child_life=Life(600.0))]).start()
    assert 0 < gateways.a.status[0].children[0].rekey_in_s <= 600 * 0.85
    gateways.run(700)
    gateways.check()
    assert Kind.CHILD_REKEYED in gateways.a.kinds()
    assert Kind.CHILD_DOWN not in gateways.a.kinds() + gateways.b.kinds()


@pytest.mark.parametrize("shorter", ["a", "b"])
def test_a_renewal_makes_before_it_breaks(shorter):
    """By whoever's time comes first; both receive on the old one until who renewed has deleted it."""
    gateways = Gateways(
        **{shorter: [peer(shorter, child_life=Life(1200.0, 600.0))], OTHER[shorter]: [peer(OTHER[shorter])]}
    ).start()
    gateways.run(2000, lambda: [gateways_has_one(site) for site in gateways.sites.values()])
    gateways.check()
    for site in gateways.sites.values():
        assert len(texts(site, Kind.CHILD_REKEYED)) >= 2
        assert len(site.sad.inbound) == 1
        names = [name for name, child in site.sad.log if child in (1, 2)]
        order = ["InstallInbound", "InstallOutbound", "SwitchOutbound"] * 2 + ["RemoveOutbound", "RemoveChild"]
        assert names[:8] == order


def test_both_receive_on_the_old_one_for_a_while():
    """What is under way when the other side changes must find it."""
    gateways = Gateways().start()
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    gateways.settle()
    gateways.run(OVERLAP + 1)
    assert [sorted(site.sad.inbound) for site in gateways.sites.values()] == [[1, 2], [1, 2]]
    gateways.run(GRACE)
    assert [sorted(site.sad.inbound) for site in gateways.sites.values()] == [[2], [2]]


def gateways_has_one(site):
    assert len(site.sad.sending) == 1, "no moment without an SA to send by"


def test_twenty_renewals_by_both_sides_at_once_leave_one():
    gateways = Gateways().start()
    for _ in range(20):
        for site in gateways.sites.values():
            site.do(site.core.rekey(site.tunnel, gateways.clock()))
        gateways.run(1)
    gateways.run(60)
    gateways.check()
    assert [len(site.sad.sending) for site in gateways.sites.values()] == [1, 1]
    assert len({site.sends_to()[0] for site in gateways.sites.values()}) == 2
    assert Kind.CHILD_DOWN not in gateways.a.kinds() + gateways.b.kinds()


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_soft_limit_of_octets_renews_and_a_hard_one_ends(site):
    gateways = Gateways().start()
    who = gateways.sites[site]
    who.do(who.core.soft_limit(who.tunnel, 1, gateways.clock()))
    gateways.run(30)
    assert texts(who, Kind.CHILD_REKEYED)
    child = who.sad.sending[0]
    who.do(who.core.hard_limit(who.tunnel, child, gateways.clock()))
    gateways.settle()
    assert not who.sad.sending
    assert texts(who, Kind.CHILD_DOWN) == ["it reached its hard limit"]
    assert texts(gateways.sites[OTHER[site]], Kind.CHILD_DOWN) == ["the peer deleted it"]


def test_early_esp_makes_the_responder_switch():
    """Message 3 is lost: what comes on the new SA says as much."""
    gateways = Gateways()
    gateways.wire.drop("a", "b", *range(5, 40))
    gateways.initiate()
    gateways.settle()
    assert gateways.installs("b") == ["InstallInbound", "InstallOutbound"]
    gateways.b.activity[1] = Activity(gateways.clock(), -inf)
    gateways.run(1.5)
    assert gateways.b.sad.sending == [1]
