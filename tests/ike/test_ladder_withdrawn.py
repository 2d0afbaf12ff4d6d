"""An IKE SA begins or is being rekeyed when a reload takes its suite out of `ike.proposals`: nothing with it comes up any more.

The reload is tried before each datagram of the exchanges and of the DELETE behind them, in both roles, with and without additional
key exchanges (RFC 9370 §2.2), and where both sides do it at once. What the peer has made all the same is deleted by its own keys.
"""

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.proposal import parse_ike

from .ladder import Ladder, peer

SIDES = ["a", "b"]
GONE = {"plain": "aes128gcm16-prfsha256-x25519", "additional": "aes128gcm16-prfsha256-x25519-ke1_mlkem768"}
STAYS = "aes256gcm16-prfsha384-ecp256"
UP = {Kind.IKE_UP, Kind.IKE_REKEYED, Kind.IKE_REAUTHENTICATED}


def under_way(exchange, kind, by):
    """Those sides of `by` have begun an IKE SA with the suite that is to go, or to rekey one that is up."""
    ike = parse_ike([GONE[kind], STAYS])
    ladder = Ladder(**{site: [peer(site, ike_proposals=ike)] for site in SIDES})
    if exchange == "rekey":
        ladder.up()
        assert {status.proposal for site in SIDES for status in ladder.sites[site].status} == {GONE[kind]}
    for site in by:
        if exchange == "first":
            ladder.initiate(site)
            continue
        who = ladder.sites[site]
        who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=True))
    return ladder


def step(ladder):
    """One datagram arrives; False when none waits."""
    return ladder.deliver("b") or ladder.deliver("a")


def datagrams(*arguments):
    ladder, count = under_way(*arguments), 0
    while step(ladder):
        count += 1
    return count


def reload(ladder, site):
    """`ike.proposals` there, and the call that follows; what was told until then."""
    who, now = ladder.sites[site], peer(site, ike_proposals=parse_ike([STAYS]))
    told = len(who.events)
    who.do(who.core.reconfigure([now], {who.tunnel: Effect.RESTART}, ladder.clock()))
    ladder.initiate(site)
    return told


@pytest.mark.parametrize("reloads", SIDES)
@pytest.mark.parametrize("by", ["a", "b", "ab"])
@pytest.mark.parametrize("kind", GONE)
@pytest.mark.parametrize("exchange", ["first", "rekey"])
def test_no_ike_sa_comes_up_with_a_suite_that_a_reload_has_taken_away(exchange, kind, by, reloads):
    steps = datagrams(exchange, kind, by)
    assert steps >= 4
    for at in range(steps + 1):
        ladder = under_way(exchange, kind, by)
        for _ in range(at):
            assert step(ladder)
        told = reload(ladder, reloads)
        who = ladder.sites[reloads]
        ladder.run(200)
        ladder.check()
        assert not [one for one in who.events[told:] if one.kind in UP and GONE[kind] in one.text], f"at datagram {at}"
        assert who.kinds()[told:].count(Kind.CHILD_UP) == 1, f"at datagram {at}"
        assert {one.proposal for site in SIDES for one in ladder.sites[site].ups} == {STAYS}, f"at datagram {at}"
        for site in SIDES:
            assert len(ladder.sites[site].core.sessions()) == 1, f"at datagram {at}, {site} keeps what is over"
            assert len(ladder.sites[site].sad.inbound) == 1
            assert not ladder.sites[site].sad.reserved
