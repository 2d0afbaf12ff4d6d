"""Both versions in one gateway: each tunnel speaks its own, in both roles, and nothing else is answered."""

from typing import Any

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.v1.states import ORDER, PAIRS, IsakmpState
from ipsec_dp.ike.v1.transitions import MAIN_MODE
from tests.ike import ladder as v2

from .gateways import Gateways, peer


def without_ikev1():
    """b has no tunnel that is to speak IKEv1."""
    gateways = Gateways(b=[v2.peer("b")])
    gateways.initiate("a")
    return gateways


def test_a_gateway_without_such_a_tunnel_reads_the_header_and_answers_nothing():
    gateways = without_ikev1()
    gateways.settle()
    assert gateways.b.core.ikev1 is None
    assert gateways.modes() == ["ab main"]
    assert gateways.b.core.counters().ikev1 == 1
    (event,) = gateways.b.events
    assert event.kind is Kind.IKEV1
    assert "calls by IKEv1, and the tunnel speaks IKEv2" in event.text


def test_nor_does_one_whose_last_such_tunnel_is_gone():
    gateways = Gateways()
    gateways.b.do(gateways.b.core.reconfigure([], {"to-a": Effect.RESTART}, gateways.clock()))
    gateways.initiate("a")
    gateways.settle()
    assert gateways.modes() == ["ab main"]
    assert gateways.b.core.counters().ikev1 == 1


def test_a_tunnel_is_called_and_answers_by_its_own_version_alone():
    gateways = Gateways(a=[v2.peer("a")])
    gateways.initiate("a")
    gateways.run(5)
    assert not gateways.a.ups
    assert gateways.b.core.counters().no_peer > 0
    gateways.initiate("b")
    gateways.run(5)
    assert gateways.a.core.counters().ikev1 > 0
    assert not gateways.b.ups


def both():
    """A tunnel of each version between the same two addresses."""
    peers = {}
    for site in "ab":
        other = v2.OTHER[site]
        nets = (v2.proxy_id(f"10.{1 + (site == 'b')}.9.0/24", f"10.{1 + (other == 'b')}.9.0/24"),)
        peers[site] = [peer(site), v2.peer(site, tunnel=f"second-{v2.TUNNEL[site]}", proxy_ids=nets)]
    return Gateways(**peers)


def test_each_tunnel_by_its_version_beside_the_other():
    gateways = both()
    gateways.initiate("a")
    core, clock = gateways.a.core, gateways.clock
    gateways.a.do(core.initiate("second-to-b", gateways.path("a"), clock()))
    gateways.settle()
    for site in gateways.sites.values():
        statuses = (*site.core.status(site.tunnel, clock()), *site.core.status(f"second-{site.tunnel}", clock()))
        assert [(status.version, status.state, len(status.children)) for status in statuses] == [(1, "up", 1), (2, "up", 1)]
        assert sorted(site.sad.sending) == [1, 2], "numbers that no version gives twice"
        assert site.core.counters().sessions == 2
        assert all(site.core.rekey_in(child, clock()) for child in site.sad.sending)
    gateways.a.do(core.close(clock()))
    gateways.run(30)
    assert not any(site.sad.inbound for site in gateways.sites.values())


@pytest.mark.parametrize("version", [1, 2])
def test_a_tunnel_changes_its_version(version):
    before, after = (v2.peer, peer) if version == 1 else (peer, v2.peer)
    gateways = Gateways([before("a")], [before("b")]).start()
    for site in gateways.sites.values():
        site.do(site.core.reconfigure([after(site.name)], {site.tunnel: Effect.RESTART}, gateways.clock()))
    gateways.settle()
    assert not any(site.ups for site in gateways.sites.values())
    gateways.run(10)
    gateways.initiate("a")
    gateways.settle()
    gateways.check()
    assert [status.version for status in gateways.a.status] == [version]


def test_whose_datagram_it_is_is_known_at_once():
    gateways = Gateways().start()
    main, quick = gateways.wire.log[4][0].data[0], gateways.wire.log[6][0].data[0]
    for site in gateways.sites.values():
        assert site.core.knows(main)
        assert site.core.knows(quick)
        assert not site.core.knows(b"stranger" + quick[8:])
        assert not site.core.knows(quick[:8] + b"stranger" + quick[16:])
        assert not site.core.knows(b"")


def test_a_probe_of_the_path_is_not_there():
    gateways = Gateways().start()
    assert gateways.a.core.probe("to-b", 1400, 1.0, gateways.clock()) is None


def test_the_whole_interface_is_there():
    from ipsec_dp.ike.interface import IkeCore

    wanted = {name for name in vars(IkeCore) if not name.startswith("_")}
    assert wanted <= set(dir(IkeVersions))


# --- the tables ------------------------------------------------------------------------------------------------------


def test_a_row_for_each_message_and_the_states_that_they_lead_through():
    assert [row.number for row in MAIN_MODE] == [1, 2, 3, 4, 5, 6]
    assert {(row.state, row.next) for row in MAIN_MODE} <= PAIRS
    assert {after for _, after in PAIRS} == set(IsakmpState) - {IsakmpState.NEW}
    assert [row.encrypted for row in MAIN_MODE] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("after", IsakmpState)
@pytest.mark.parametrize("before", IsakmpState)
def test_no_other_pair_is_entered(before, after):
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.sa import IsakmpSa

    gateways: Any = Gateways()
    context = IsakmpContext(
        gateways.a.core.ikev1.gateway, Candidates([peer("a")]), IsakmpSa(True, b"i" * 8), gateways.path("a"), 0.0
    )
    ways: dict[IsakmpState, tuple[IsakmpState, ...]] = {IsakmpState.NEW: ()}
    while before not in ways:
        ways |= {to: (*ways[at], to) for at, to in PAIRS if at in ways and to not in ways}
    for state in ways[before]:
        context.enter(state)
    if (before, after) in PAIRS:
        context.enter(after)
        assert context.state is after
    else:
        with pytest.raises(RuntimeError, match="no ISAKMP SA goes from"):
            context.enter(after)


def test_a_pair_of_ipsec_sas_never_goes_back():
    gateways = Gateways().start()
    sa = gateways.a.core.ikev1.sessions("to-b")[-1].peering.sas[1]
    for number, state in enumerate(ORDER):
        if number:
            sa.enter(state)
        for earlier in ORDER[:number]:
            with pytest.raises(RuntimeError, match="no IPsec SA goes from"):
                sa.enter(earlier)
