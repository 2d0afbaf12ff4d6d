"""The driver of the IKE core: what it hands to the core, and what becomes of the actions that the core returns."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.databases.sad_events import IkeDatagram
from ipsec_dp.dataplane import Endpoint
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host.unreachable import Unreachable
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.effect import Effect
from ipsec_dp.keying.calls import TICK_S
from ipsec_dp.keying.ike_driver import IkeDriver
from tests.doubles.clock import settle
from tests.doubles.config import tunnel
from tests.unit.sites import to_b

from .ike_driver_site import AT_ONCE, LOCAL, ON_DEMAND, PATH, Site, event


@pytest.fixture
def made(tmp_path):
    return lambda *tables: Site(tmp_path, *(tables or (tunnel("to-b", AT_ONCE),)))


@pytest.mark.parametrize("origin", [act.Origin.STRANGER, act.Origin.CLAIMED])
def test_what_strangers_do_is_nobodys_failure(made, origin):
    """Forged every ten seconds, it kept a gateway from ever calling its peer."""
    site = made(tunnel("to-b", ON_DEMAND))

    async def life():
        for _ in range(20):
            site.hand(act.Report(act.Event(act.Kind.IKE_FAILED, "to-b", bytes(8), bytes(8), "IKE_SA_INIT", "why", origin=origin)))
            await site.clock.advance(10.0)
        status = site.driver.status("to-b")
        assert (status.state, status.state_text) == ("waiting", "waiting for traffic")
        assert status.last_error == {act.Origin.STRANGER: None, act.Origin.CLAIMED: "why"}[origin]
        site.driver.acquire("to-b", to_b())
        await settle()
        assert site.called() == ["to-b"], "at once, without a pause"

    site.run(life)


def test_an_icmp_message_about_an_ike_message_is_handed_to_the_core_with_its_path(made):
    site = made()

    async def life():
        for port in (500, 4500):
            site.driver.unreachable(Unreachable("closed", LOCAL, port, ip_address("192.0.2.2"), port, b"message"))
        handed = site.core.of("unreachable")
        assert [(call[1], call[2].remote, call[2].natt, call[3]) for call in handed] == [
            (b"message", act.Endpoint(ip_address("192.0.2.2"), port), port == 4500, "closed") for port in (500, 4500)
        ]

    site.run(life)


# ---- what the core wants done ----------------------------------------------------------------------------------------------------


def test_an_action_that_fails_ends_its_child_sa_and_not_those_after_it(made, caplog):
    site = made(tunnel("to-b", ON_DEMAND))
    site.children.answers["switch"] = DataPlaneError(errno.ENOSPC, "no room")

    async def life():
        site.hand(act.SwitchOutbound("to-b", 7), act.Send(b"next", PATH))
        assert [call[:3] for call in site.core.of("delete_child")] == [("delete_child", "to-b", 7)]
        assert [call[3] for call in site.links.of("send_ike")] == [b"next"]
        assert "SwitchOutbound: no room" in caplog.text
        assert site.changed == []

    site.run(life)


def test_actions_go_where_they_belong_in_their_order(made):
    site = made(tunnel("to-b", ON_DEMAND))
    probe = act.ProbeResult("to-b", 1400, 1398, passed=True)
    of_a_child = [
        act.RemoveOutbound("to-b", 1),
        act.RemoveChild("to-b", 1),
        act.ReleaseSpi(0x1001),
        act.MovePath("to-b", (2,), PATH),
    ]

    async def life():
        site.hand(*of_a_child, act.SendKeepalive(PATH), probe)
        assert [call[0] for call in site.children.calls] == ["remove_outbound", "remove", "release_spi", "move"]
        assert site.links.of("send_keepalive") == [("send_keepalive", LOCAL, Endpoint(ip_address("192.0.2.2"), 500))]
        assert site.changed == ["to-b"]
        assert site.probed == [probe]

    site.run(life)


def test_the_end_of_an_ike_sa_beside_another_calls_nobody(made):
    site = made()

    async def life():
        site.core.answers["has_ike_sa"] = True
        site.hand(event(act.Kind.IKE_UP))
        site.hand(event(act.Kind.IKE_DOWN, cause=act.Cause.PEER))
        await site.clock.advance(5.0)
        assert site.called() == ["to-b"], "only at the start"
        site.core.answers["has_ike_sa"] = False
        site.hand(event(act.Kind.IKE_DOWN, cause=act.Cause.PEER))
        await site.clock.advance(5.0)
        assert site.called() == ["to-b", "to-b"]

    site.run(life)


def test_the_core_is_woken_when_it_wants(made):
    site = made(tunnel("to-b", ON_DEMAND))

    async def life():
        due = site.clock.now() + 10.0
        site.core.answers["next_timeout"] = due
        site.hand()
        site.core.answers["next_timeout"] = due + 1.0
        site.hand()  # in the place of the first
        await site.clock.advance(10.5)
        assert site.core.of("timer") == []
        site.core.answers["next_timeout"] = None
        await site.clock.advance(5.0)
        assert site.core.of("timer") == [("timer", due + 1.0)]

    site.run(life)


# ---- a changed configuration, and the end ----------------------------------------------------------------------------------------


def test_a_tunnel_that_is_gone_is_gone_and_a_new_one_is_called(made):
    site = made()

    async def life():
        tunnels, peers = site.read(tunnel("to-c", AT_ONCE, remote="192.0.2.3"))
        await site.driver.reconfigure(tunnels, peers, {"to-b": Effect.RESTART})
        told = [([peer.tunnel for peer in given], effects) for _, given, effects, _ in site.core.of("reconfigure")]
        assert told == [([], {"to-b": Effect.RESTART}), (["to-c"], {})]
        assert not site.driver.acquire("to-b", to_b())
        await site.clock.advance(TICK_S)
        assert site.called() == ["to-b", "to-c"]

    site.run(life)


def test_a_tunnel_that_changes_in_place_is_not_called_again(made):
    site = made()

    async def life():
        site.hand(event(act.Kind.IKE_UP))
        await site.driver.reconfigure(*site.read(tunnel("to-b", AT_ONCE)), {"to-b": Effect.IN_PLACE})
        await site.clock.advance(60.0)
        assert site.called() == ["to-b"]

    site.run(life)


@pytest.mark.parametrize(("effect", "called"), [(Effect.RECHECK, 2), (Effect.REAUTH, 2), (Effect.IN_PLACE, 1)])
def test_who_could_not_prove_himself_may_do_so_after_a_reload_of_certificates(made, effect, called):
    """What is up is the core's; a pause after a failure is over."""
    site = made()

    async def life():
        site.hand(event(act.Kind.IKE_FAILED))
        await site.driver.reconfigure(*site.read(tunnel("to-b", AT_ONCE)), {"to-b": effect})
        await site.clock.advance(TICK_S)
        assert site.called() == ["to-b"] * called
        site.hand(event(act.Kind.IKE_UP))
        await site.driver.reconfigure(*site.read(tunnel("to-b", AT_ONCE)), {"to-b": effect})
        await site.clock.advance(60.0)
        assert site.called() == ["to-b"] * called

    site.run(life)


def test_at_the_end_the_peers_are_told_and_nobody_is_called_any_more(made):
    site = made()
    goodbye = act.Send(b"goodbye", PATH)

    async def life():
        site.core.answers["close"] = [goodbye]

    site.run(life)
    assert [call[3] for call in site.links.of("send_ike")] == [b"goodbye"]
    assert site.clock.next_event is None


def test_a_message_without_its_ends_is_nobodys(made):
    site = made(tunnel("to-b", ON_DEMAND))
    site.driver.datagram(IkeDatagram(0, None, None, b"message"))
    assert site.core.of("receive") == []


@pytest.mark.parametrize(("knows", "handled"), [(False, 1), (True, 3)], ids=["strangers", "peers"])
def test_strangers_have_their_turn_and_peers_do_not_wait_behind_them(made, knows, handled):
    site = made(tunnel("to-b", ON_DEMAND))
    site.core.answers["knows"] = knows

    async def life():
        for _ in range(3):
            site.hand()
        assert len(site.core.of("receive")) == handled
        await settle()
        assert len(site.core.of("receive")) == 3

    site.run(life)


def test_timers_have_their_turn_in_a_flood(made):
    """Each datagram put the timer off to the next turn of the event loop, where another datagram came first: no rekey for 10 s."""
    site = made(tunnel("to-b", ON_DEMAND))

    async def life():
        loop, left = asyncio.get_running_loop(), 20

        def datagram() -> None:
            nonlocal left
            left -= 1
            if left:
                loop.call_soon(datagram)
            site.hand()

        site.core.answers["next_timeout"] = site.clock.now()
        datagram()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert left > 10
        assert site.core.of("timer")
        site.core.answers["next_timeout"] = None

    site.run(life)


def test_what_the_core_counted_is_told_by_name(made):
    site = made()
    site.core.answers["counters"] = SimpleNamespace(__slots__=("malformed", "ikev1"), malformed=3, ikev1=1)
    assert site.driver.counters() == {"malformed": 3, "ikev1": 1}


@pytest.mark.parametrize("refused", [None, "EPERM: its own packet filter"])
def test_what_the_host_refuses_to_send_is_said_to_the_core(made, refused):
    site = made()
    site.links.answers["send_ike"] = refused

    async def life():
        site.hand(act.Send(b"an answer", PATH))
        assert site.core.of("unsent") == ([] if refused is None else [("unsent", b"an answer", refused, site.clock.now())])

    site.run(life)


def test_nothing_goes_to_an_address_that_is_refused(tmp_path):
    """Neither an answer nor, when authentic ESP comes from there, what is on its way to the peer."""
    site = Site(tmp_path, tunnel("to-b", ON_DEMAND))
    refused = act.Endpoint(ip_address("10.2.0.9"), 4500)
    parts: dict[str, Any] = {"core": site.core, "children": site.children, "links": site.links, "clock": site.clock}
    tunnels, peers = site.read(tunnel("to-b", ON_DEMAND))
    parts["conditions"] = site.conditions
    parts["refuses"] = lambda address: address == refused.address
    site.driver = IkeDriver(tunnels, peers, locate=site.locate, changed=site.changed.append, **parts)

    async def life():
        for address in ("10.2.0.9", "192.0.2.2"):
            remote = Endpoint(ip_address(address), 4500)
            site.driver.datagram(IkeDatagram(0, Endpoint(LOCAL, 4500), remote, b"message"))
            site.driver.peer_moved("to-b", 1, act.Endpoint(remote.address, 4500))
        assert [name for name, *_ in site.core.of("receive", "peer_moved")] == ["receive", "peer_moved"]

    site.run(life)


def test_every_peer_is_asked_whether_it_is_there(made):
    site = made(tunnel("to-b", ON_DEMAND), tunnel("to-c", ON_DEMAND, remote="192.0.2.3", interface="ipsec1"))

    async def life():
        site.driver.check_liveness()
        await settle()
        assert [name for _, name, _ in site.core.of("check_liveness")] == ["to-b", "to-c"]

    site.run(life)
