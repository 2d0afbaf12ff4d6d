"""`ipsec-dp test` by a running gateway: by its ports and beside its tunnels, of which none is touched."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.messages import TestRequest
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.environment import Environment, IkeSaTraits
from ipsec_dp.keying.ike_trials import IkeTrials
from ipsec_dp.keying.trial_attempt import environment_on_trial
from ipsec_dp.rig import Network, Wire
from ipsec_dp.util.faults import TRACE_LOG
from tests.doubles.clock import FakeClock
from tests.ike.watcher import NotingWatcher
from tests.unit.gateway_doubles import Calls
from tests.unit.rig_sites import site, sites

SECONDS = 60.0


def test_a_trial_changes_neither_the_gateways_cookies_nor_its_peers():
    """Its core has secrets of its own, of which the data plane must not hear."""
    watcher = NotingWatcher()
    environment = environment_on_trial(Environment(bytes, lambda _: None, lambda _: datetime.now(UTC), watcher=watcher))
    traits = IkeSaTraits(b"own", b"peer", True, False, False)
    environment.watcher.cookie_secret(b"another")
    environment.watcher.ikev1_peer(ip_address("192.0.2.2"), there=True)
    environment.watcher.known(traits, None)
    assert (watcher.secrets, watcher.ikev1_peers, watcher.known_now) == ([], set(), {b"own": traits})
    environment.watcher.gone(b"own")
    assert watcher.known_now == {}


def test_where_no_trial_is_under_way_nothing_is_for_one():
    trials = IkeTrials(Environment(bytes, lambda _: None, lambda _: datetime.now(UTC)), Calls("links"), int, FakeClock())  # type: ignore[arg-type]
    assert not trials.knows(bytes(28))
    trials.close()
    trials.forget()


def tried(gateway: Any, *, beside: bool = False, name: str = "to-b") -> Any:
    """The verb's answer."""
    return gateway.network.loop.call(gateway.site.gateway.verbs.test(TestRequest(name=name, beside=beside)), SECONDS)


def test_a_tunnel_that_is_not_up_is_tried_and_nothing_of_it_stays():
    with sites(up=False, start="respond") as (a, b):
        answer = tried(a)
        assert answer.passed, answer
        assert (answer.version, answer.remote_id, answer.local_id) == (2, "b.example", "a.example")
        assert answer.messages[0].startswith("out 192.0.2.1:500 > 192.0.2.2:500 IKE_SA_INIT request 0")
        assert a.sas() == ()
        b.wait(lambda: not b.sas(), 5.0)
        assert b.sas() == ()
        assert [event for event in a.events() if "IKE SA" in str(event)] == [], "the gateway's log says nothing of a trial"
        a.initiate()
        a.wait("up")  # by the same ports, and SPIs that are free again


def test_a_trace_shows_the_messages_of_a_trial_as_all_others(caplog):
    caplog.set_level(logging.DEBUG, TRACE_LOG)
    with sites(up=False, start="respond") as (a, _):
        caplog.clear()
        answer = tried(a)
        shown = [record.getMessage() for record in caplog.records if record.name == TRACE_LOG]
    assert answer.messages
    assert [line for line in answer.messages if line not in shown] == []


def test_a_tunnel_that_is_up_is_not_tried_before_somebody_says_so():
    with sites() as (a, b):
        before = a.sas(), b.sas()
        answer = tried(a)
        assert not answer.passed
        assert "delete that and interrupt the traffic" in answer.asks
        assert answer.messages == ()
        assert [[each.spi_in for each in sas] for sas in (a.sas(), b.sas())] == [[each.spi_in for each in sas] for sas in before]


def test_beside_a_tunnel_that_is_up_its_sas_stay_where_the_peer_lets_them():
    with sites(tables='unique = "never"') as (a, b):
        before = [each.spi_in for each in a.sas()]
        answer = tried(a, beside=True)
        assert answer.passed, answer
        assert not any("INITIAL_CONTACT" in line for line in answer.messages)
        assert [each.spi_in for each in a.sas()] == before
        b.wait(lambda: len(b.sas()) == 1, 5.0)
        assert a.tunnel().state == "up"


def test_a_peer_that_is_silent_is_told_in_ten_seconds():
    with Network(wire=Wire(loss=1.0)) as network:
        a = network.gateway(site("a", start="respond"))
        began = a.clock.now()
        answer = tried(a)
        assert a.clock.now() - began < 15
        assert (answer.passed, answer.failed) == (False, "phase 1")
        assert "Let UDP port 500 pass" in answer.error


def test_of_several_addresses_the_one_that_answers_is_tried_last():
    both = '192.0.2.9", "192.0.2.2'
    with Network() as network:
        b = network.gateway(site("b", start="respond"))
        a = network.gateway(site("a", start="respond").replace('remote = "192.0.2.2"', f'remote = ["{both}"]'))
        answer = tried(a)
        assert answer.passed, answer
        assert answer.remote.startswith("192.0.2.2:")
        assert len(answer.others) == 1
        assert answer.others[0].startswith("IKEv2, 192.0.2.9:500: ")
        b.wait(lambda: not b.sas(), 5.0)


def test_one_trial_at_a_time():
    with sites(up=False, start="respond") as (a, _):
        verbs = a.site.gateway.verbs

        async def both() -> list[Any]:
            import asyncio

            asked = (verbs.test(TestRequest(name="to-b")) for _ in range(2))
            return await asyncio.gather(*asked, return_exceptions=True)

        one, other = a.network.loop.call(both(), SECONDS)
        assert one.passed
        assert isinstance(other, IpsecDpError)
        assert "another tunnel is being tested" in str(other)


def test_a_peer_that_only_calls_cannot_be_tried():
    with sites(up=False, start="respond", remote="any") as (a, _), pytest.raises(IpsecDpError, match="only the peer can call"):
        tried(a)


def test_a_gateway_that_stops_ends_the_trial_at_the_peer():
    with sites(up=False, start="respond") as (a, b):

        async def begin() -> Any:
            import asyncio

            return asyncio.ensure_future(a.site.gateway.verbs.test(TestRequest(name="to-b")))

        task = a.network.loop.call(begin(), SECONDS)
        b.wait(Kind.CHILD_REKEYED, 5.0)
        a.close()
        b.wait(lambda: not b.sas(), 5.0)
        assert b.sas() == ()
        assert task.done()
