"""The driver of the IKE core: whom it calls and when, and what becomes of the actions that the core returns."""

from __future__ import annotations

import asyncio
import errno
from contextlib import AsyncExitStack
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.databases.pad import peer_of
from ipsec_dp.databases.sad import IkeDatagram
from ipsec_dp.dataplane import Endpoint
from ipsec_dp.errors import DataPlaneError, IpsecDpError
from ipsec_dp.host import HostError
from ipsec_dp.host.unreachable import Unreachable
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.ike.interface import IkeStatus
from ipsec_dp.keying.ike_driver import CALLS_AT_ONCE, TICK_S, IkeDriver
from ipsec_dp.keying.initiation import BACKOFF_FIRST_S, Intent
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, configured, tunnel
from tests.unit.sites import to_b

LOCAL = ip_address("192.0.2.1")
PATH = act.Path(act.Endpoint(LOCAL, 500), act.Endpoint(ip_address("192.0.2.2"), 500))
ON_DEMAND, AT_ONCE = 'start = "on-demand"', 'start = "start"'


class Double:
    """Notes what is called, and answers as it is told: with a value, or by raising it."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, *arguments))
            answer = self.answers.get(name, [])
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in names]


class Site:
    """A driver of the tunnels of a configuration, between doubles; every name and address is found but those in `lost`."""

    trace: Any = NO_TRACE

    def __init__(self, directory: Any, *tables: str) -> None:
        self.directory, self.clock, self.lost = directory, FakeClock(), set[str]()
        self.core = Double(
            next_timeout=None, acquire=None, latest=(), probe=None, knows=True, fallback=None, pinned=None
        )  # all at once, not in turn
        self.children, self.links, self.changed, self.stack = Double(), Double(send_ike=None), list[str](), AsyncExitStack()
        self.turns = list[int]()
        self.probed = list[act.ProbeResult]()
        self.conditions = Conditions(self.clock)
        tunnels, peers = self.read(*tables)
        parts: dict[str, Any] = {"core": self.core, "children": self.children, "links": self.links, "conditions": self.conditions}
        parts["trace"] = self.trace
        self.uncalled = list[str]()
        parts["uncalled"] = self.uncalled.append
        self.driver = IkeDriver(
            tunnels, peers, locate=self.locate, changed=self.changed.append, clock=self.clock, probed=self.probed.append, **parts
        )

    def read(self, *tables: str) -> Any:
        tunnels = configured(self.directory, *tables).tunnels
        return tunnels, {each.name: peer_of(each) for each in tunnels}

    async def locate(self, of: Any, remote: Any, turn: int) -> Any:
        self.turns.append(turn)
        if of.name in self.lost:
            raise HostError(f"no route to {remote}")
        return remote, LOCAL

    def run(self, life: Any) -> None:
        """`life` after the start, and the end."""

        async def whole() -> None:
            async with self.stack:
                self.driver.start(self.stack, [LOCAL])
                await settle()
                await life()

        asyncio.run(whole())

    def called(self) -> list[str]:
        return [name for _, name, *_ in self.core.of("initiate")]

    def hand(self, *actions: Any) -> None:
        """The core returns these to the next message."""
        self.core.answers["receive"] = list(actions)
        end = Endpoint(LOCAL, 4500)
        self.driver.datagram(IkeDatagram(0, end, end, b"message"))


@pytest.fixture
def made(tmp_path):
    return lambda *tables: Site(tmp_path, *(tables or (tunnel("to-b", AT_ONCE),)))


def event(kind, name="to-b", cause=None):
    return act.Report(act.Event(kind, name, bytes(8), bytes(8), "", "why", cause=cause, origin=act.Origin.OURS))


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


# ---- when and whom ---------------------------------------------------------------------------------------------------------------


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
        site.core.answers["latest"] = (SimpleNamespace(state="up"),)
        site.hand(event(act.Kind.IKE_UP))
        site.hand(event(act.Kind.IKE_DOWN, cause=act.Cause.PEER))
        await site.clock.advance(5.0)
        assert site.called() == ["to-b"], "only at the start"
        site.core.answers["latest"] = ()
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


# ---- peers with DNS names


NAMED = PSK + '  remote_id = "b.example"\n'
MEANT, MEANT_NOW = ip_address("192.0.2.2"), ip_address("192.0.2.9")


def named(*lines):
    return tunnel("to-b", ON_DEMAND, *lines, remote="gw.example", keys=NAMED)


def test_what_a_name_means_is_told_to_the_core_when_it_changes(made):
    site = made(named())

    async def life():
        assert site.driver.peer("to-b").named
        for addresses in ((MEANT,), (MEANT,), (MEANT_NOW,)):
            site.driver.located("to-b", addresses)
        site.driver.located("gone", (MEANT,))
        assert [peer.remotes for _, peer in site.core.of("set_peer")] == [(MEANT,), (MEANT_NOW,)]
        assert site.core.of("terminate", "leave", "reconfigure") == []

    site.run(life)


def test_a_reload_keeps_what_a_name_means(made):
    site = made(named())

    async def life():
        site.driver.located("to-b", (MEANT,))
        await site.driver.reconfigure(*site.read(named("mtu = 1400")), {"to-b": Effect.IN_PLACE})
        assert site.driver.peer("to-b").remotes == (MEANT,)

    site.run(life)


@pytest.mark.parametrize(("known", "shown"), [((), None), ((MEANT,), True), ((MEANT_NOW,), False)])
def test_status_says_whether_the_peer_is_where_its_name_says(made, known, shown):
    site = made(named())
    newest = IkeStatus("negotiating", bytes(8), bytes(8), "responder", "", PATH, "none", "", 0.0, 0.0, ())

    async def life():
        site.driver.located("to-b", known)
        assert site.driver.status("to-b").remote_in_dns is None, "there is no peer yet"
        site.core.answers["latest"] = (newest,)
        assert site.driver.status("to-b").remote_in_dns is shown

    site.run(life)
    fixed = made(tunnel("to-b", ON_DEMAND))

    async def of_an_address():
        fixed.core.answers["latest"] = (newest,)
        assert fixed.driver.status("to-b").remote_in_dns is None

    fixed.run(of_an_address)
