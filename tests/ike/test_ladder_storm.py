"""Many tunnels that both sides `start`, between the same two gateways, while the link comes and goes: one SA of each in the end.

Each site has the little of a driver that matters here: intents that say when a tunnel is called.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.ike.actions import Cause, Kind, Origin
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.traffic_selectors import ProxyId
from ipsec_dp.keying.initiation import Intent
from ipsec_dp.keying.tunnel_state import tunnel_state

from .ladder import OTHER, Ladder, peer, proxy_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer

TUNNELS = 14
TICK_S = 0.25
ENDS = (Kind.IKE_DOWN, Kind.IKE_FAILED)


class Contactless(IkeManager):
    """Sends no INITIAL_CONTACT, whoever carries it on."""

    def __init__(self, environment: Environment, peers: Iterable[Peer]) -> None:
        super().__init__(environment, peers)
        self.gateway.first_contact = lambda session: False  # type: ignore[method-assign]  # noqa: ARG005


class DrivenLadder(Ladder):
    """Both sites call by themselves, as their intents say. `contact`: INITIAL_CONTACT is sent where it may be."""

    def __init__(self, peers: dict[str, list[Any]], seed: int, *, contact: bool) -> None:
        super().__init__(a=peers["a"], b=peers["b"], seed=seed)
        self.draw = random.Random(seed)
        self.peers = peers
        self.cut = False
        self.told = {"a": 0, "b": 0}
        config = SimpleNamespace(start="start", remotes=("there",), ike=SimpleNamespace(liveness=SimpleNamespace(action="restart")))
        self.intents = {
            site: {each.tunnel: Intent(cast("Any", config), self.draw.random) for each in peers[site]} for site in self.sites
        }
        for site in self.sites.values():
            if not contact:
                site.core = Contactless(site.core.environment, peers[site.name])
            for intent in self.intents[site.name].values():
                intent.start(self.clock() + self.draw.random())

    def sas(self, site, tunnel):
        return self.sites[site].core.status(tunnel, self.clock())

    def tick(self):
        """What a driver does with events, and four times a second."""
        for name, site in self.sites.items():
            due = site.core.next_timeout()
            if due is not None and due <= self.clock():
                site.do(site.core.timer(self.clock()))
            self.hear(name, site)
            for tunnel, intent in self.intents[name].items():
                if intent.attempt(self.clock()) is not None:
                    site.do(site.core.initiate(tunnel, self.path(name), self.clock()))
                    self.hear(name, site)

    def hear(self, name, site):
        for event in site.events[self.told[name] :]:
            intent = self.intents[name].get(event.tunnel)
            if intent is not None and event.origin in (Origin.OURS, Origin.PEER):
                others = event.kind in ENDS and any(sa.state != "closing" for sa in self.sas(name, event.tunnel))
                intent.event(event, self.clock(), others=others)
        self.told[name] = len(site.events)

    def live(self, seconds):
        """Time passes, datagrams arrive in any order, or not at all while the link is cut."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.tick()
            for _ in range(10_000):
                receiver = self.draw.choice("ab")
                waiting = [site for site in self.sites if self.wire.waiting(site)]
                if not waiting:
                    break
                receiver = receiver if receiver in waiting else OTHER[receiver]
                if self.cut:
                    self.wire.take(receiver)
                else:
                    self.deliver(receiver)
                self.hear(receiver, self.sites[receiver])
            self.clock.advance(TICK_S)


def tunnels(site):
    """Fourteen, with the same two identities and a pair of prefixes each."""
    found = []
    for number in range(TUNNELS):
        nets = proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24")
        found.append(
            peer(
                site,
                tunnel=f"t{number}",
                proxy_ids=(nets if site == "a" else ProxyId(nets.remote, nets.local),),
                start="start",
                local_id=Identity.from_text(f"gw{site}.example"),
                liveness=Liveness(5.0, 3),
            )
        )
    return found


@pytest.mark.parametrize("contact", [False, True])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_storm_of_starts_ends_with_one_sa_of_each(seed, contact):
    ladder = DrivenLadder({site: tunnels(site) for site in "ab"}, seed, contact=contact)
    for _ in range(3):
        ladder.live(60 * ladder.draw.random())
        ladder.cut = True  # long enough that each side finds the other dead, or not quite
        ladder.live(10 + 40 * ladder.draw.random())
        ladder.cut = False
    ladder.live(180)
    sent = len(ladder.messages())
    ladder.live(20)
    assert {m.split()[1].rstrip("-") for m in ladder.messages()[sent:]} <= {"INFORMATIONAL"}, "it rests"
    for name, site in ladder.sites.items():
        for tunnel, intent in ladder.intents[name].items():
            sas = ladder.sas(name, tunnel)
            assert len(sas) == 1, (name, tunnel)
            assert len(sas[0].children) == 1, (name, tunnel)
            assert tunnel_state(sas, intent, ladder.clock()).state == "up"
            assert not intent.pending
        assert len(site.sad.inbound) == len(site.sad.sending) == TUNNELS
        assert site.core.counters().sessions == TUNNELS
    assert ladder.a.sends_to() == ladder.b.receives_on()
    assert ladder.b.sends_to() == ladder.a.receives_on()


def test_a_late_initial_contact_ends_nothing_that_came_after_it():
    """The peer had no other IKE SA when it said so; until that arrived it made one for another tunnel."""
    ladder = DrivenLadder({site: tunnels(site) for site in "ab"}, 0, contact=True)
    path = ladder.path("a")
    ladder.a.do(ladder.a.core.initiate("t0", path, ladder.clock()))
    assert ladder.deliver("b")
    ladder.wire.drop("a", "b", 2)
    assert ladder.deliver("a")  # IKE_AUTH with INITIAL_CONTACT, which is lost
    ladder.clock.advance(0.1)
    ladder.a.do(ladder.a.core.initiate("t1", path, ladder.clock()))
    ladder.settle()
    assert len(ladder.sas("b", "t1")) == 1
    ladder.run(3)  # and is sent again
    assert {tunnel: len(ladder.sas("b", tunnel)) for tunnel in ("t0", "t1")} == {"t0": 1, "t1": 1}
    assert Kind.IKE_DOWN not in ladder.b.kinds()


def test_an_initial_contact_that_ends_another_tunnels_ike_sa_says_what_to_do():
    ladder = DrivenLadder({site: tunnels(site) for site in "ab"}, 0, contact=True)
    for tunnel in ("t0", "t1"):
        ladder.a.do(ladder.a.core.initiate(tunnel, ladder.path("a"), ladder.clock()))
        ladder.settle()
        ladder.a.do(ladder.a.core.forget(ladder.clock()))  # A restarts
    (ended,) = [event for event in ladder.b.events if event.kind is Kind.IKE_DOWN]
    assert (ended.tunnel, ended.cause) == ("t0", Cause.REPLACED)
    for words in ('with tunnel "t1", which has the same identities', 'unique = "never"'):
        assert words in ended.text
