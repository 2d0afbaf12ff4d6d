"""Whose an event is decides what it may reach, whatever its kind."""

from __future__ import annotations

import msgspec
import pytest

from ipsec_dp.ike import actions as act
from tests.doubles.config import tunnel
from tests.unit.test_ike_driver import ON_DEMAND, Site, event

SAY_NOTHING_OF_A_TUNNEL = {act.Kind.CHILD_DOWN, act.Kind.PATH, act.Kind.HINT, act.Kind.IKEV1}


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
        before = site.driver.status("to-b")
        site.hand(*everything_of(kind, act.Origin.STRANGER))
        assert site.driver.status("to-b") == before
        site.hand(*everything_of(kind, act.Origin.CLAIMED))
        assert site.driver.status("to-b") == msgspec.structs.replace(before, last_error=None if is_up else "why")
        await site.clock.advance(100.0)
        assert (site.called(), site.changed) == ([], [])
        if not is_up:
            claimed = site.driver.status("to-b")
            site.hand(*everything_of(kind, act.Origin.PEER, "genuine"))
            said = site.driver.status("to-b") != claimed
            assert said is (kind not in SAY_NOTHING_OF_A_TUNNEL), "while the peer's own does, by kind"

    site.run(life)
