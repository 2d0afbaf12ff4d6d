"""What an IKE SA asks of the gateway around it: numbers, what the tunnels say now, which others are between the same ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.peer_table import PeerTable
from ipsec_dp.ike.strangers import LIMITS, KeyExchanges
from ipsec_dp.ike.v2 import replacement, shorter, uniqueness
from ipsec_dp.ike.v2.downgrades import Downgrades
from ipsec_dp.ike.v2.holdings import Holdings
from ipsec_dp.ike.v2.lengths import Lengths
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.session import IkeSession

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.v2.admission import Admission
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.ike_sas import IkeSas
    from ipsec_dp.ike.v2.sa import Child, IkeSa


class IkeGateway:
    """`context.IkeHost`, by what the gateway holds."""

    def __init__(self, environment: Environment, peers: Iterable[Peer], sas: IkeSas, admission: Admission[IkeSession]) -> None:
        self.environment = environment
        self.peers = PeerTable(peers)
        self.holdings = Holdings()
        self.downgrades = Downgrades()
        self.further = KeyExchanges(LIMITS.further_a_second, LIMITS.further_of_network_a_second)
        self.lengths = Lengths()
        self.counts: Counter[str] = Counter()
        self.retransmissions: Counter[str] = Counter()  # by tunnel
        self.number = 0  # the last one given to a CHILD_SA
        self._sas, self._admission = sas, admission

    # ---- what is counted

    def next_child(self) -> int:
        self.number += 1
        return self.number

    def count(self, counter: str) -> None:
        self.counts[counter] += 1

    def retransmitted(self, tunnel: str) -> None:
        self.retransmissions[tunnel] += 1
        self.count("retransmissions")

    # ---- what tunnels say now

    def expected(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        return tuple(peer for one in peers if (peer := self.peers.get(one.tunnel)) is not None)

    def configured(self, peer: Peer) -> Peer:
        return self.peers.get(peer.tunnel) or peer

    def lacks(self, session: Context) -> bool:
        current = self._sas.current(session.peer.tunnel)
        return self.peers.get(session.peer.tunnel) is not None and (current is None or current.state is not State.ESTABLISHED)

    # ---- which others there are

    def first_contact(self, session: Context) -> bool:
        alone = not self._sas.others(session) and not self._admission.half_open.any_from(session.path.remote.address)
        return alone and not self.environment.on_trial

    def children(self, session: Context) -> int:
        sharing = self._sas.sessions.of_ends(session)
        tables = {id(one.children): len(one.children) for one in sharing}  # two may see the same ones
        return sum(tables.values())

    def has_room(self, session: Context) -> bool:
        held = (one for one in self._sas.sessions.of_ends(session) if one.state is not State.LINGERING)
        return sum(1 for _ in held) < PEER_LIMITS.ike_sas

    def admits(self, session: Context) -> bool:
        return uniqueness.admits(session, self._sas.others(session))

    # ---- what was made, and is up

    def holds(self, child: Child) -> None:
        self._sas.holds(child)

    def spawn(self, candidates: Candidates, sa: IkeSa, path: Path, now: float) -> IkeSession:
        session = IkeSession(self, candidates, sa, path, now)
        self._sas.spawned(session)
        return session

    def came_up(self, session: Context, now: float) -> None:
        shorter.keep(session)
        others = self._sas.others(session)
        for other in others:
            if replacement.overlap(other, session):
                replacement.settle(session, other, now)
                self._sas.met(other)
        old = next((other for other in others if replacement.replaces(session, other)), None)
        if old is not None and not replacement.overlap(old, session):
            replacement.begin(session, old, now)
