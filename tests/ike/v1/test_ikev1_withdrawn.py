"""A quick mode is under way when a reload takes its suite out of `esp.proposals`: no IPsec SA with it comes up any more.

The reload is tried before each datagram, in both roles, of the first quick mode and of a renewal, also where both sides begin one.
"""

from typing import Any

import pytest

from ipsec_dp.ike.actions import InstallInbound, Kind, SwitchOutbound
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.proposal import parse_esp
from tests.ike.ladder import proxy_id

from .gateways import Gateways, peer, texts

SIDES = ["a", "b"]
GONE, STAYS = "aes128gcm16", "aes256gcm16"


def under_way(exchange: str, pfs: str, by: str) -> Gateways:
    """Those sides of `by` have begun, with both suites."""
    both = parse_esp([f"{GONE}{pfs}", f"{STAYS}{pfs}"])
    gateways = Gateways(*([peer(site, esp_proposals=both, start="start")] for site in SIDES))
    if exchange == "renewal":
        gateways.start()
        gateways.run(10)
        assert {child.suite for site in SIDES for child in gateways.sites[site].status[0].children} == {GONE}
    for site in by:
        who = gateways.sites[site]
        if exchange == "first":
            gateways.initiate(site)
        else:
            who.do(who.core.rekey(who.tunnel, gateways.clock()))
    return gateways


def step(gateways: Gateways) -> bool:
    return gateways.deliver("b") or gateways.deliver("a")


def datagrams(*arguments: str) -> int:
    gateways, count = under_way(*arguments), 0
    while step(gateways):
        count += 1
    return count


class Reloaded:
    """`esp.proposals` of a gateway is STAYS alone from now on. `used`: suites that it has installed or begun to send by since."""

    def __init__(self, gateways: Gateways, site: str, pfs: str) -> None:
        self.who = who = gateways.sites[site]
        self.used: list[str] = []
        self._carry_out = who.sad.carry_out
        who.sad.carry_out = self._carried_out  # type: ignore[method-assign]
        now = peer(site, esp_proposals=parse_esp([f"{STAYS}{pfs}"]), start="start")
        who.do(who.core.reconfigure([now], {who.tunnel: Effect.REKEY}, gateways.clock()))

    def _carried_out(self, action: Any) -> None:
        if isinstance(action, InstallInbound):
            self.used.append(f"installs {action.suite}")
        elif isinstance(action, SwitchOutbound):
            self.used.append(f"sends by {self.who.sad.outbound[action.child].suite}")
        self._carry_out(action)


@pytest.mark.parametrize("reloads", SIDES)
@pytest.mark.parametrize("by", ["a", "b", "ab"])
@pytest.mark.parametrize("pfs", ["", "-ecp256"])
@pytest.mark.parametrize("exchange", ["first", "renewal"])
def test_no_ipsec_sa_comes_up_with_a_suite_that_a_reload_has_taken_away(exchange, pfs, by, reloads):
    steps = datagrams(exchange, pfs, by)
    assert steps >= 3
    for at in range(steps + 1):
        gateways = under_way(exchange, pfs, by)
        for _ in range(at):
            assert step(gateways)
        reloaded = Reloaded(gateways, reloads, pfs)
        gateways.run(100)
        gateways.check()
        assert not [one for one in reloaded.used if GONE in one], f"at datagram {at}"
        for site in gateways.sites.values():
            assert {child.suite for status in site.status for child in status.children} == {STAYS}, f"at datagram {at}, {site.name}"
            assert len(site.sad.inbound) == 1, f"at datagram {at}"
        assert texts(reloaded.who, Kind.CHILD_FAILED) == []
        assert texts(reloaded.who, Kind.CHILD_DOWN) == []


@pytest.mark.parametrize("exchange", ["first", "renewal"])
def test_no_ipsec_sa_comes_up_for_a_pair_that_a_reload_has_taken_away(exchange):
    other = (proxy_id("10.9.0.0/24", "10.8.0.0/24"),)
    for at in range(datagrams(exchange, "", "a") + 1):
        gateways = under_way(exchange, "", "a")
        for _ in range(at):
            assert step(gateways)
        who = gateways.sites["a"]
        who.do(who.core.reconfigure([peer("a", proxy_ids=other, start="start")], {who.tunnel: Effect.SELECTORS}, gateways.clock()))
        gateways.run(100)
        assert [child.selectors for status in who.status for child in status.children] == [], f"at datagram {at}"
        assert who.sad.inbound == {}, f"at datagram {at}"
