"""Whose an event is decides what it may reach, whatever its kind."""

from __future__ import annotations

import logging

import msgspec
import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.authenticated import PEER_LIMITS
from tests.doubles.clock import settle
from tests.doubles.config import tunnel
from tests.unit.ike_driver_site import ON_DEMAND, Site, event

SAY_NOTHING_OF_A_TUNNEL = {act.Kind.CHILD_DOWN, act.Kind.PATH, act.Kind.HINT, act.Kind.IKEV1, act.Kind.NOTE, act.Kind.NO_UDP}


def everything_of(kind, origin, text="why"):
    """Each event of this kind that there can be."""
    causes = (None, *act.Cause)
    return [
        act.Report(act.Event(kind, "to-b", bytes(8), bytes(8), "IKE_AUTH", text, cause, child, again, origin=origin))
        for cause in causes
        for child in (None, 1)
        for again in (True, False)
    ]


@pytest.mark.parametrize("kind", act.Kind)
@pytest.mark.parametrize("is_up", [True, False])
def test_no_event_reaches_a_tunnel_unless_it_is_ours_or_its_peers(tmp_path, kind, is_up):
    """Its state, what is planned, when it came up, its `last_error`; but for what is claimed, while nothing better is known."""
    site = Site(tmp_path, tunnel("to-b", ON_DEMAND))

    async def life():
        if is_up:
            site.hand(event(act.Kind.IKE_UP), event(act.Kind.CHILD_UP))
            await settle()
        before = site.driver.status("to-b")
        site.hand(*everything_of(kind, act.Origin.STRANGER))
        await settle()
        assert site.driver.status("to-b") == before
        site.hand(*everything_of(kind, act.Origin.CLAIMED))
        await settle()
        assert site.driver.status("to-b") == msgspec.structs.replace(before, last_error=None if is_up else "why")
        await site.clock.advance(100.0)
        assert (site.called(), site.changed) == ([], [])
        if not is_up:
            claimed = site.driver.status("to-b")
            site.hand(*everything_of(kind, act.Origin.PEER, "genuine"))
            await settle()
            said = site.driver.status("to-b") != claimed
            assert said is (kind not in SAY_NOTHING_OF_A_TUNNEL), "while the peer's own does, by kind"

    site.run(life)


def test_lines_about_one_tunnel_are_bounded_and_say_how_many_were_left_out(tmp_path, caplog):
    """A peer that has proven who it is causes an event with each of its requests; the others' are written as before."""
    caplog.set_level(logging.INFO, "ipsec_dp")
    site = Site(tmp_path, tunnel("to-b", ON_DEMAND), tunnel("to-c", ON_DEMAND, remote="192.0.2.3", interface="ipsec1"))

    def lines():
        return [record.getMessage() for record in caplog.records if "why" in record.message or "left out" in record.message]

    async def life():
        site.hand(*(event(act.Kind.CHILD_FAILED) for _ in range(5000)))
        await settle()
        assert len(lines()) <= PEER_LIMITS.lines_at_once + 2 * PEER_LIMITS.lines_of_proxy_id + 1
        assert site.driver.status("to-b").last_error == "why", "what they say of the tunnel is heard"
        before = len(lines())
        site.hand(event(act.Kind.CHILD_FAILED, "to-c"))
        await settle()
        await site.clock.advance(1.0)
        site.hand(event(act.Kind.CHILD_FAILED))
        await settle()
        assert lines()[before + 1] == f'tunnel "to-b": {5000 - before} lines about its IKE SAs were left out'

    site.run(life)
