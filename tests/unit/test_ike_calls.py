"""Calling the peers: whom, when, and that it goes on whatever becomes of one round."""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.ike import actions as act
from ipsec_dp.keying.calls import CALLS_AT_ONCE, TICK_S
from ipsec_dp.keying.initiation import BACKOFF_FIRST_S, Intent
from tests.doubles.clock import settle
from tests.doubles.config import PSK, tunnel
from tests.unit.sites import to_b

from .ike_driver_site import AT_ONCE, LOCAL, ON_DEMAND, PATH, Site, event


@pytest.fixture
def made(tmp_path):
    return lambda *tables: Site(tmp_path, *(tables or (tunnel("to-b", AT_ONCE),)))


def test_at_the_start_it_listens_and_calls_the_tunnels_that_want_it(made):
    site = made(tunnel("to-b", AT_ONCE), tunnel("waits", ON_DEMAND, remote="192.0.2.3", interface="ipsec1"))

    async def life():
        assert [call[:2] for call in site.links.of("listen_ike")] == [("listen_ike", LOCAL)] * 2, "for the peers, and to call"
        assert site.core.of("initiate") == [("initiate", "to-b", PATH, site.clock.now(), None)]

    site.run(life)


def test_a_packet_without_an_sa_calls_with_its_selectors(made):
    site = made(tunnel("to-b", ON_DEMAND))

    async def life():
        assert site.driver.acquire("to-b", to_b())
        await settle()
        ((_, name, _, _, packet),) = site.core.of("initiate")
        assert (name, packet.local_text, packet.remote_text) == ("to-b", "10.1.0.1/32[17/5000]", "10.2.0.1/32[17/6000]")
        assert not site.driver.acquire("unknown", to_b())
        assert not site.driver.acquire("to-b", b"no packet")
        assert site.called() == ["to-b"]

    site.run(life)


def test_a_packet_for_an_ike_sa_that_is_up_is_the_cores(made):
    site = made(tunnel("to-b", ON_DEMAND))
    site.core.answers["acquire"] = [act.SwitchOutbound("to-b", 7)]

    async def life():
        assert site.driver.acquire("to-b", to_b())
        await settle()
        assert site.called() == []
        assert site.changed == ["to-b"]

    site.run(life)


def test_a_peer_that_is_not_found_is_looked_for_again_after_a_pause(made, caplog):
    site = made()
    site.lost.add("to-b")
    assert site.uncalled == []

    async def life():
        assert site.called() == []
        assert 'tunnel "to-b": no route to 192.0.2.2' in caplog.text
        site.lost.clear()
        assert set(site.uncalled) == {"to-b"}
        await site.clock.advance(BACKOFF_FIRST_S + TICK_S)
        assert site.called() == ["to-b"]
        assert site.turns == [0, 1], "of several addresses of a name, another one"

    site.run(life)


def test_a_way_that_comes_back_ends_the_pause(made):
    site = made()
    site.lost.add("to-b")

    async def life():
        site.lost.clear()
        site.driver.wake("to-b")
        await settle()
        assert site.called() == ["to-b"]

    site.run(life)


def test_so_many_at_once_and_the_next_when_one_is_answered(made):
    names = [f"t{number}" for number in range(CALLS_AT_ONCE + 2)]
    site = made(*(tunnel(name, AT_ONCE, remote=f"192.0.2.{number}", interface=name) for number, name in enumerate(names, 10)))

    async def life():
        assert site.called() == names[:CALLS_AT_ONCE]
        site.hand(event(act.Kind.IKE_UP, "t5"))
        await settle()
        assert site.called() == names[: CALLS_AT_ONCE + 1]

    site.run(life)


def test_tunnels_that_are_not_to_be_called_cost_nothing(made, monkeypatch):
    """With ten thousand that wait for traffic, asking each four times a second was 1.5 % of a core."""
    asked = list[Any]()
    monkeypatch.setattr(Intent, "attempt", lambda intent, _now: asked.append(intent))
    site = made(tunnel("to-b", ON_DEMAND))

    async def life():
        await site.clock.advance(10 * TICK_S)
        assert asked == []
        site.driver.initiate("to-b")
        assert len(asked) == 1, "the positive control"

    site.run(life)


def test_a_peer_that_may_be_anybody_cannot_be_called(made):
    site = made(tunnel("to-b", 'start = "respond"', remote="any", keys=f'{PSK}  remote_id = "b.example"\n'))
    with pytest.raises(IpsecDpError, match="only the peer can call"):
        site.driver.initiate("to-b")


def test_what_is_not_there_is_not_rekeyed(made):
    site = made(tunnel("to-b", ON_DEMAND))
    with pytest.raises(IpsecDpError, match="ipsec-dp initiate to-b"):
        site.driver.rekey("to-b", ike=True)
    assert site.core.of("rekey") == []


def test_left_it_is_called_anew(made):
    site = made()

    async def life():
        site.hand(event(act.Kind.IKE_UP))
        site.driver.restart("to-b")
        await settle()
        assert [call[0] for call in site.core.of("initiate", "leave")] == ["initiate", "leave", "initiate"]

    site.run(life)


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
