"""What IKEv1 does for one thing costs the same beside many others; for all of them, as much as there are (`tests.ike.test_growth`).

Beside one peer with which B speaks IKEv1 there are many others: up, of tunnels of their own or of one that takes anybody, or
half-open.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.identity import Identity, IdType
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.proxy_ids import ProxyIds
from tests.ike import growth
from tests.ike.growth import address, net
from tests.ike.ladder import proxy_id
from tests.ike.test_growth import LINEAR, LONG, counted, looks_at_each, too_much

from .gateways import Gateways, peer

if TYPE_CHECKING:
    from collections.abc import Callable

    Operation = Callable[[], object]

SHORT = (50, 200)  # fewer than caches have
SIZES = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=[pytest.mark.slow, pytest.mark.measure])]
LIVE: dict[str, Any] = {"liveness": Liveness(10.0)}
SPARE = 100_000  # of a tunnel that nobody has


def named(number: int) -> Identity:
    return Identity.from_text(f"peer{number}.example")


def own(number: int) -> Any:
    """Of B: the tunnel with a peer of its own address, identity and network."""
    pairs = ProxyIds((proxy_id("10.2.0.0/24", net(number)),))
    return peer("b", tunnel=f"t{number}", remotes=(address(number),), remote_id=named(number), proxy_ids=pairs, **LIVE)


class Beside:
    """B with many things. `tunnel`: of which it has many; `of`: the peer with a number, as that peer has it."""

    def __init__(self, tunnels: list[Any], tunnel: str) -> None:
        self.gateways = Gateways(b=[peer("b", **LIVE), *tunnels])
        self.tunnel, self.count = tunnel, 0
        self.gateways.start("a")

    @property
    def site(self) -> Any:
        return self.gateways.b

    @property
    def core(self) -> Any:
        return self.site.core

    @property
    def now(self) -> float:
        return self.gateways.clock()

    def come_up(self, number: int, tunnel: Any) -> None:
        """Peer `number` calls, and has an ISAKMP SA and an IPsec SA with B."""
        (pair,) = tunnel.proxy_ids[:1]
        mirrored = ProxyIds((type(pair)(pair.remote, pair.local),))
        here = self.gateways.path("b").local
        own_id = named(number) if tunnel.remote_id else Identity(IdType.IPV4_ADDR, address(number).packed)
        ends = {"remotes": (here.address,), "local_id": own_id, "remote_id": tunnel.local_id}
        caller = Gateways(a=[peer("a", tunnel="hub", proxy_ids=mirrored, **ends)], seed=number).a
        path = Path(Endpoint(here.address, 500), Endpoint(address(number), 500))
        back = Path(path.remote, path.local)
        waiting = sent(caller.core.initiate("hub", back, self.now))
        before = self.core.counters().sessions
        while waiting:
            answers = [one for datagram in waiting for one in sent(self.does(self.core.receive(datagram, path, self.now)))]
            waiting = [one for answer in answers for one in sent(caller.core.receive(answer, back, self.now))]
        assert self.core.counters().sessions == before + 1

    def does(self, actions: Any) -> Any:
        """Carries out what B wants; the actions."""
        self.site.do([one for one in actions if not isinstance(one, act.Send)])
        return actions

    def drain(self, now: float) -> None:
        while (due := self.core.next_timeout()) is not None and due <= now:
            self.does(self.core.timer(now))

    def __call__(self, actions: Any) -> None:
        self.does(actions or [])
        self.drain(self.now)

    @property
    def numbers(self) -> list[int]:
        """Of the IPsec SAs of the tunnels that there are many of, or the one."""
        return [number for session in self.core.ikev1.sessions(self.tunnel) for number in session.peering.sas]


def sent(actions: Any) -> list[bytes]:
    return [one.datagram for one in actions if isinstance(one, act.Send)]


def message_1(scene: Beside, number: int) -> bytes:
    first: bytes = scene.gateways.wire.log[0][0].data[0]
    return number.to_bytes(8, "big") + first[8:]


# ---- scenes


def distinct_tunnels(count: int) -> Beside:
    tunnels = [own(number) for number in range(1, count + 1)]
    scene = Beside([*tunnels, own(SPARE)], "t7")
    for number, tunnel in enumerate(tunnels, 1):
        scene.come_up(number, tunnel)
    scene.drain(scene.now)
    return scene


def one_tunnel(count: int) -> Beside:
    pairs = ProxyIds(proxy_id("10.2.0.0/24", net(number)) for number in range(1, count + 1))
    anybody = peer("b", tunnel="hub", remotes=(), remote_id=None, proxy_ids=pairs, **LIVE)
    scene = Beside([anybody, own(SPARE)], "hub")
    for number in range(1, count + 1):
        scene.come_up(number, replace(anybody, proxy_ids=pairs[number - 1 :]))
    scene.drain(scene.now)
    return scene


def half_open(count: int) -> Beside:
    scene = Beside([peer("b", tunnel="any", remotes=(), remote_id=named(1)), own(SPARE)], "to-a")
    here = scene.gateways.path("b").local
    for number in range(1, count + 1):
        scene(scene.core.receive(message_1(scene, number), Path(here, Endpoint(address(number), 500)), scene.now))
    assert scene.core.counters().half_open == count
    return scene


# ---- what happens to one thing: made ready, then called


def receives_message_1(scene: Beside) -> Operation:
    path = Path(scene.gateways.path("b").local, Endpoint(address(SPARE), 500))
    return lambda: scene.core.receive(message_1(scene, 10**9), path, scene.now)


def receives_message_5(scene: Beside) -> Operation:
    """A has lost everything and begins anew: INITIAL-CONTACT."""
    gateways = scene.gateways
    while gateways.deliver("b") or gateways.deliver("a"):
        pass
    gateways.a.core.forget(scene.now)
    gateways.initiate("a")
    for receiver in "baba":
        assert gateways.deliver(receiver)
    return lambda: gateways.deliver("b")


def receives_quick_mode(scene: Beside) -> Operation:
    gateways = scene.gateways
    gateways.a.do(gateways.a.core.rekey("to-b", scene.now))
    assert gateways.wire.waiting("b") == 1
    return lambda: gateways.deliver("b")


def has_a_timer_due(scene: Beside) -> Operation:
    (session,) = scene.core.ikev1.sessions("to-a")
    number = next(reversed(session.peering.up))
    scene(scene.core.soft_limit("to-a", number, scene.now))
    assert session.exchanges
    return lambda: scene.core.timer(scene.now + 1.01)


def shows_one(scene: Beside) -> Operation:
    number = scene.numbers[0]
    return lambda: [scene.core.latest(scene.tunnel, scene.now), scene.core.rekey_in(number, scene.now), scene.core.counters()]


def learns_an_address(scene: Beside) -> Operation:
    known = replace(own(SPARE), remotes=(address(SPARE - 1),))
    return lambda: scene.core.set_peer(known)


def changes_one(scene: Beside) -> Operation:
    return lambda: scene.core.reconfigure([peer("b", **LIVE)], {"to-a": Effect.REKEY}, scene.now)


def loses_an_ipsec_sa(scene: Beside) -> Operation:
    number = scene.numbers[0]
    return lambda: scene.core.hard_limit(scene.tunnel, number, scene.now)


def ends_one(scene: Beside) -> Operation:
    return lambda: scene.core.terminate("to-a", scene.now)


ONE = (
    receives_message_1,
    shows_one,
    learns_an_address,
    receives_quick_mode,
    has_a_timer_due,
    changes_one,
    loses_an_ipsec_sa,
    receives_message_5,
    ends_one,
)


def ends_of(row: Any, sizes: tuple[int, int]) -> tuple[int, int]:
    """The fewest and the most: as many as there can be, or come up in seconds."""
    most = 4000 if row is half_open else 2000
    return sizes[0], min(sizes[1], most)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("row", [half_open, distinct_tunnels, one_tunnel], ids=lambda row: row.__name__)
def test_one_thing_costs_the_same_beside_many_others(row, sizes):
    cost: dict[str, dict[int, int]] = {}
    for count in ends_of(row, sizes):
        scene = row(count)
        for column in ONE:
            cost.setdefault(column.__name__, {})[count] = counted(column(scene), growth.opcodes)
    assert {name: text for name, costs in cost.items() if (text := looks_at_each(costs))} == {}


# ---- what happens to all of them


def tunnels_of(scene: Beside) -> list[str]:
    return [f"t{number}" for number in range(1, scene.count + 1)] if scene.tunnel == "t7" else [scene.tunnel]


def shows_all(scene: Beside) -> Operation:
    return lambda: [scene.core.status(tunnel, scene.now) for tunnel in tunnels_of(scene)]


def of_each(scene: Beside, call: Callable[[str], Any]) -> Operation:
    def call_each() -> None:
        for tunnel in tunnels_of(scene):
            scene(call(tunnel))

    return call_each


def asks_all_whether_they_live(scene: Beside) -> Operation:
    return of_each(scene, lambda tunnel: scene.core.check_liveness(tunnel, scene.now))


def ages(scene: Beside) -> Operation:
    """Half-open ones expire, peers do not answer, lifetimes are over."""

    def age() -> None:
        for seconds in (31.0, 300.0, 40_000.0):
            scene.drain(scene.now + seconds)

    return age


def ends_all(scene: Beside) -> Operation:
    return of_each(scene, lambda tunnel: scene.core.terminate(tunnel, scene.now))


def forgets_all(scene: Beside) -> Operation:
    return lambda: scene(scene.core.forget(scene.now))


def closes_all(scene: Beside) -> Operation:
    return lambda: scene(scene.core.close(scene.now))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("column", [(shows_all, asks_all_whether_they_live, ends_all), (ages,), (forgets_all,), (closes_all,)])
@pytest.mark.parametrize("row", [distinct_tunnels, pytest.param(one_tunnel, marks=pytest.mark.slow), half_open])
def test_all_of_them_cost_as_much_as_there_are(row, column, sizes):
    cost: dict[str, dict[int, int]] = {}
    for count in ends_of(row, sizes):
        scene = row(count)
        scene.count = count
        for each in column:
            cost.setdefault(each.__name__, {})[count] = counted(each(scene), growth.calls)
    assert {name: text for name, costs in cost.items() if (text := too_much(costs, LINEAR))} == {}


# ---- in slices


@pytest.mark.parametrize("what", ["close", "forget", "terminate"])
def test_very_many_are_ended_a_few_at_a_time(what):
    scene = distinct_tunnels(30) if what != "terminate" else one_tunnel(30)
    core = scene.core
    end = partial(core.terminate, "hub") if what == "terminate" else getattr(core, what)
    before = core.counters().sessions
    scene.does(end(scene.now))
    assert core.unfinished()
    assert before - core.counters().sessions <= 4
    assert core.next_timeout() == -inf
    scene.does(core.timer(scene.now))
    assert before - core.counters().sessions <= 9
    scene.drain(scene.now)
    assert not core.unfinished()
    assert core.counters().sessions == (1 if what == "terminate" else 0)


def test_what_waits_for_its_turn_happens_before_anything_else_does():
    """Keys that another machine has too prove nothing any more, in whatever order they are forgotten."""
    scene = distinct_tunnels(30)
    gateways = scene.gateways
    gateways.a.do(gateways.a.core.rekey("to-b", scene.now))
    (to_a,) = scene.core.ikev1.sessions("to-a")
    for number in range(1, 9):  # who came later is forgotten later
        assert scene.core.ikev1.sessions(f"t{number}")
    last = scene.core.ikev1.sessions("t30")[0]
    scene.does(scene.core.forget(scene.now))
    assert not to_a.alive
    assert last.alive
    scene.does(scene.core.initiate("t30", last.path, scene.now))
    assert not last.alive
