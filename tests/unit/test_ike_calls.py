"""Calling the peers goes on whatever becomes of one round."""

from __future__ import annotations

from ipsec_dp.keying.ike_driver import TICK_S
from ipsec_dp.keying.initiation import Intent
from tests.doubles.config import tunnel
from tests.unit.test_ike_driver import AT_ONCE, Site


def test_a_fault_in_one_round_of_calls_is_told_and_the_next_one_calls(tmp_path, monkeypatch):
    """Else no tunnel would be called any more, and nobody would know."""
    site, attempt, faults = Site(tmp_path, tunnel("to-b", AT_ONCE)), Intent.attempt, [TypeError("a fault"), TypeError("a fault")]

    def fails_first(self, now):
        if faults:
            raise faults.pop()
        return attempt(self, now)

    monkeypatch.setattr(Intent, "attempt", fails_first)

    async def life():
        assert site.called() == []
        (told,) = site.conditions.texts
        assert "calling peers: TypeError: a fault" in told
        for _ in range(20):
            await site.clock.advance(TICK_S)
        assert (site.called(), site.conditions.texts, faults) == (["to-b"], [], [])

    site.run(life)
