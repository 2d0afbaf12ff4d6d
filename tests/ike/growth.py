"""What an operation costs beside many other things, in steps of the interpreter, which no other program changes; scenes with many.

Steps are counted in one of two ways: every opcode, for what must not grow at all, or calls of functions, for what may grow with the
number of things that it is about.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from copy import deepcopy
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import Liveness, Unique
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.proxy_ids import ProxyIds
from ipsec_dp.ike.v2 import child
from ipsec_dp.ike.v2.child import Agreement
from ipsec_dp.ike.v2.sa import IkeSa, State
from ipsec_dp.util.collection import no_collection
from ipsec_dp.util.slices import unsliced

from .ladder import ADDRESSES, NETS, Ladder, Site, packet, peer, proxy_id
from .test_strangers_attacks import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.traffic_selectors import ProxyId

NONCES = b"i" * 32, b"r" * 32


class Steps:
    """What was counted."""

    count = 0


@contextmanager
def opcodes() -> Iterator[Steps]:
    """Counts every opcode of what is called inside, and no slice ends there: how fast the machine is would be counted too."""
    steps, before = Steps(), sys.gettrace()

    def trace(frame: Any, event: str, _argument: object) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "opcode":
            steps.count += 1
        return trace

    with no_collection(), unsliced():
        sys.settrace(trace)
        try:
            yield steps
        finally:
            sys.settrace(before)


@contextmanager
def calls() -> Iterator[Steps]:
    """Counts calls of functions, those in C too."""
    steps, before = Steps(), sys.getprofile()

    def profile(_frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            steps.count += 1

    with no_collection():
        sys.setprofile(profile)
        try:
            yield steps
        finally:
            sys.setprofile(before)


def address(number: int) -> Any:
    return ip_address((198 << 24 | 18 << 16) + number)


def net(number: int) -> str:
    return f"{ip_address((11 << 24) + (number << 8))}/24"


def prefixes(count: int) -> ProxyIds:
    """Proxy IDs of B, which have nothing in common."""
    return ProxyIds(proxy_id("10.2.0.0/24", net(number)) for number in range(1, count + 1))


# Of B, the tunnel with a number: each of its own peer, by its address, by a name that means one, or by its identity.
KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "static": lambda number: {"remotes": (address(number),)},
    "name": lambda number: {"remotes": (address(number),), "named": True, "remote_id": Identity.from_text(f"peer{number}.example")},
    "any with DN": lambda number: {"remotes": (), "remote_id": Identity.from_text(f"CN=peer {number}, O=Example")},
}


def tunnels(count: int, kind: str = "static") -> list[Peer]:
    """So many besides the one that A is the peer of."""
    other = {number: KINDS[kind](number) for number in range(1, count + 1)}
    pairs = {number: ProxyIds((proxy_id("10.2.0.0/24", net(number)),)) for number in other}
    live = {"liveness": Liveness(10.0), "unique": Unique.NEVER}
    return [peer("b", tunnel=f"t{number}", proxy_ids=pairs[number], **live, **its) for number, its in other.items()]


class Scene:
    """A and B with an IKE SA and a CHILD_SA, and B with many other things beside it. `concerned`: the tunnel of B of which it has
    many, or the one with A."""

    def __init__(
        self,
        others: Iterable[Peer] = (),
        pairs: Iterable[ProxyId] = (),
        concerned: str = "to-a",
        *,
        known: bool = True,
        **changes: Any,
    ) -> None:
        """`pairs`: proxy IDs of the tunnel with A, which A has too if it is `known`; `changes` of B's end of it."""
        mine = ProxyIds((NETS["b"], *pairs))
        theirs = ProxyIds(type(one)(one.remote, one.local) for one in (mine if known else mine[:1]))
        self.concerned, self.count = concerned, 0
        self.ladder = Ladder(a=[peer("a", proxy_ids=theirs)], b=[peer("b", proxy_ids=mine, **changes), *others])
        self.ladder.initiate("a", asks=packet("10.1.0.1", "10.2.0.1"))
        self.ladder.settle()
        assert len(self.site.core.sessions("to-a")) == 1

    @property
    def site(self) -> Site:
        return self.ladder.b

    @property
    def now(self) -> float:
        return self.ladder.clock()

    def add(self, of: Peer, number: int) -> Any:
        """An IKE SA with a CHILD_SA that B has with another peer, with the keys of A's: nobody has to negotiate it."""
        core, like = self.site.core, self.site.core.sessions("to-a")[0]
        sa = IkeSa(initiator=False, spi_i=b"I%07x" % number, spi_r=b"R%07x" % number)
        path = Path(Endpoint(ip_address(ADDRESSES["b"]), 500), Endpoint(address(number), 500))
        session = core.gateway.spawn(Candidates((of,)), sa, path, self.now)
        for state in (State.INIT_ANSWERED, State.ESTABLISHED):
            session.enter(state)
        sa.install(like.sa.suite, deepcopy(like.sa.keys))  # type: ignore[arg-type]
        sa.established_at = self.now
        session.ends.identities = Identity.from_text("gwb.example"), Identity.from_text(f"peer{number}.example")
        session.start_deadlines(self.now)
        self.carry(session, of.proxy_ids[0])
        return session

    def carry(self, session: Any, pair: Any) -> Any:
        """A CHILD_SA of it for a pair of selectors."""
        like = next(iter(self.site.core.sessions("to-a")[0].children.values()))
        spi = self.site.sad.allocate_spi(session.peer.tunnel)
        spis, selectors = (spi, spi ^ 0xC0000000), ((pair.local,), (pair.remote,))
        made = child.install(session, spis, like.suite, selectors, (pair,), self.now, Agreement(NONCES, initiator=True))
        child.switch(session, made)
        return made

    def settle_wire(self) -> None:
        """What A and B have to say to each other."""
        while self.ladder.deliver("b") or self.ladder.deliver("a"):
            pass

    def settle(self) -> None:
        """What was made is B's from now on."""
        self.site.do(self.site.core.check_liveness("to-a", self.now))
        self.drain(self.now)

    def drain(self, now: float) -> None:
        """Everything that is due by now."""
        core = self.site.core
        while (due := core.next_timeout()) is not None and due <= now:
            self.site.do(core.timer(now))

    def __call__(self, actions: Any) -> None:
        """Carries out what the core wants, and goes on until nothing is due."""
        self.site.do(actions or [])
        self.drain(self.now)


# ---- scenes with so many things, by row of the table


def half_open(count: int) -> Scene:
    scene = Scene([peer("b", tunnel="any", remotes=(), remote_id=Identity.from_text("somebody.example"))])
    fill(scene.site, count, scene.now)
    return scene


def of_one_tunnel(count: int) -> Scene:
    hub = peer("b", tunnel="hub", remotes=(), remote_id=None, unique=Unique.NEVER, liveness=Liveness(10.0))
    scene = Scene([hub], concerned="hub")
    for number in range(1, count + 1):
        scene.add(hub, number)
    scene.settle()
    return scene


def of_distinct_tunnels(count: int) -> Scene:
    others = tunnels(count)
    scene = Scene(others, concerned="t7")
    for number, of in enumerate(others, 1):
        scene.add(of, number)
    scene.settle()
    return scene


def child_sas(count: int) -> Scene:
    scene = Scene(pairs=prefixes(count))
    (session,) = scene.site.core.sessions("to-a")
    for pair in prefixes(count):
        scene.carry(session, pair)
    scene.site.do(session.take())
    scene.settle()
    return scene


def wanted(count: int) -> Scene:
    """Proxy IDs that B is to have CHILD_SAs for, and waits with for A, which called; besides those that A's first one holds."""
    return Scene(pairs=prefixes(count + child.MAX_OFFERED), start="start")


def unwanted(count: int) -> Scene:
    """The same, and A has none of them."""
    return Scene(pairs=prefixes(count), start="start", known=False)


def proxy_ids(count: int) -> Scene:
    return Scene(pairs=prefixes(count))


def static_tunnels(count: int) -> Scene:
    return Scene(tunnels(count))


def named_tunnels(count: int) -> Scene:
    return Scene(tunnels(count, "name"))


def tunnels_with_dn(count: int) -> Scene:
    return Scene(tunnels(count, "any with DN"))
