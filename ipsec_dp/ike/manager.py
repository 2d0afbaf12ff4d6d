"""The calls of `interface.IkeCore` for the tunnels that are to speak IKEv2; `core` puts IKEv1's manager beside it.

Here are the tunnels, the commands about them, and what is told of them. Whose a datagram is stands in `v2.datagrams`, what becomes
of an IKE SA after it has acted in `v2.ike_sas`, what it asks of those around it in `v2.gateway`.

What is kept for strangers is bounded (`strangers`, `v2.admission`) and belongs to no tunnel before AUTH has shown whose it is; IKE
SAs that authenticated peers make are bounded for each pair of identities.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.interface import Counters, IkeStatus
from ipsec_dp.ike.peer_table import PeerTable
from ipsec_dp.ike.post_quantum import NOTHING, PostQuantum
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.ike.traffic_selectors import asked_by
from ipsec_dp.ike.v2 import acquire, delete, elsewhere, ike_rekey, reauth, reconfigure, report, timers
from ipsec_dp.ike.v2.admission import Admission
from ipsec_dp.ike.v2.datagrams import IkeDatagrams
from ipsec_dp.ike.v2.gateway import IkeGateway
from ipsec_dp.ike.v2.ike_sas import IkeSas, send_next
from ipsec_dp.ike.v2.probe import PathProbe
from ipsec_dp.ike.v2.sa import ChildState, State
from ipsec_dp.ike.v2.session import initiator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipsec_dp.ike.actions import Action, Endpoint, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.v2.downgrades import Downgrades
    from ipsec_dp.ike.v2.holdings import Holdings
    from ipsec_dp.ike.v2.ike_sas import Step
    from ipsec_dp.ike.v2.lengths import Lengths
    from ipsec_dp.ike.v2.sa import Child
    from ipsec_dp.ike.v2.session import IkeSession
    from ipsec_dp.ipsec.selectors import SelectorPair

LATEST: Final = 32  # IKE SAs of a tunnel by which its state is judged


class IkeManager:
    """See `interface.IkeCore` for its calls."""

    def __init__(self, environment: Environment, peers: Iterable[Peer] = (), events: StrangersEvents | None = None) -> None:
        """`events`: which of those that strangers cause are told, where others have a part in it too."""
        events = StrangersEvents() if events is None else events
        self._admission: Admission[IkeSession] = Admission(environment.rng)
        self._sas = IkeSas(environment, self._admission, events)
        self.gateway = IkeGateway(environment, peers, self._sas, self._admission)
        self._datagrams = IkeDatagrams(self.gateway, self._sas, self._admission, events)
        environment.watcher.cookie_secret(self._admission.cookie_secret)

    @property
    def environment(self) -> Environment:
        return self.gateway.environment

    @property
    def holdings(self) -> Holdings:
        """What the peers have of the address space."""
        return self.gateway.holdings

    @property
    def downgrades(self) -> Downgrades:
        """Which peers have had keys that withstand a quantum adversary."""
        return self.gateway.downgrades

    @property
    def lengths(self) -> Lengths:
        """Of datagrams, that the ways to peers took."""
        return self.gateway.lengths

    # ---- tunnels

    def set_peers(self, peers: Iterable[Peer]) -> None:
        self.gateway.peers = PeerTable(peers)

    def set_peer(self, peer: Peer) -> None:
        self.gateway.peers.set(peer)

    def reconfigure(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        new = {peer.tunnel: peer for peer in peers}
        for peer in new.values():
            self.gateway.peers.set(peer)
        for tunnel in effects.keys() - new.keys():
            self.gateway.peers.discard(tunnel)
            self.gateway.retransmissions.pop(tunnel, None)
        concerned: list[tuple[IkeSession, Step]] = []
        for tunnel, effect in effects.items():
            concerned += self._to_reconfigure(tunnel, effect)
        for session, _ in concerned:
            if effects.get(session.peer.tunnel) is Effect.RESTART:
                session.withdrawn = True  # at once: a new one may begin before its turn has come
        return self._sas.each(concerned, now)

    def _to_reconfigure(self, tunnel: str, effect: Effect) -> list[tuple[IkeSession, Step]]:
        sessions = (session for session in self._sas.sessions.of_tunnel(tunnel) if session.in_use)
        return [(session, partial(self._reconfigure, session, effect)) for session in sessions]

    def _reconfigure(self, session: IkeSession, effect: Effect, now: float) -> list[Action]:
        reconfigure.reconfigure(session, self.gateway.peers.get(session.peer.tunnel), effect, now)
        return send_next(session, now)

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        return self._sas.each(self._to_reconfigure(tunnel, Effect.RECHECK), now)

    def candidates(self, path: Path) -> Candidates | None:
        """Whom somebody there may be; None: nobody is expected."""
        return self.gateway.peers.candidates(path)

    # ---- datagrams and time

    def knows(self, datagram: bytes) -> bool:
        return self._datagrams.knows(datagram)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        return self._datagrams.receive(datagram, path, now)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        return self._datagrams.unreachable(message, path, reason, now)

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        return self._datagrams.unsent(datagram, why, now)

    def next_timeout(self) -> float | None:
        return self._sas.next_timeout()

    def timer(self, now: float) -> list[Action]:
        return self._sas.timer(now)

    def unfinished(self) -> bool:
        return self._sas.unfinished()

    # ---- commands

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        peer = self.gateway.peers[tunnel]
        up = self._sas.current(tunnel)
        if up is not None:
            return self._sas.run(up, now, partial(_acquire, up, packet, now))
        session = initiator(self.gateway, peer, path, now)
        for expired in self._sas.sessions.of_tunnel(tunnel):
            if expired.state is State.EXPIRED and expired.in_use and expired.succession.after is None:
                session.succession.before, expired.succession.after = expired, session
        self._sas.sessions.add(session)
        asked = None if packet is None else asked_by(packet, peer.proxy_ids)
        acquire.want(session, asked)
        return self._sas.run(session, now, lambda: session.initiate(now, packet=asked))

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        session = self._sas.current(tunnel)
        if session is None:
            return None
        return self._sas.run(session, now, partial(_acquire, session, packet, now))

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        session = self._sas.current(tunnel)
        if session is None or session.state is not State.ESTABLISHED:
            return []

        def step() -> list[Action]:
            if ike:
                ike_rekey.rekey(session, now)
            else:
                for child in list(session.children.values()):
                    timers.rekey_child(session, child, now)
            return send_next(session, now)

        return self._sas.run(session, now, step)

    def reauthenticate(self, tunnel: str, now: float) -> list[Action]:
        session = self._sas.current(tunnel)
        if session is None or not reauth.may_call(session):
            return []

        def step() -> list[Action]:
            reauth.demand(session, now)
            return []

        return self._sas.run(session, now, step)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        sessions = (one for one in self._sas.sessions.of_tunnel(tunnel) if one.alive and not one.succession.handed_over)
        return self._sas.each([(one, partial(_terminate, one)) for one in sessions], now)

    def leave(self, tunnel: str, now: float) -> list[Action]:
        """Ends a tunnel's IKE SAs at once, each with one DELETE whose answer nobody waits for: the way to the peer is gone."""
        return self._sas.each([(one, one.close) for one in self._sas.sessions.of_tunnel(tunnel) if one.alive], now)

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        def step(session: IkeSession, one: Child) -> None:
            delete.child(session, one, now)
            session.report(Kind.CHILD_DOWN, "deleted here", cause=Cause.LOCAL, child=child)

        return self._sas.run_child(tunnel, child, now, step)

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._sas.run_child(tunnel, child, now, lambda session, one: timers.rekey_child(session, one, now))

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._sas.run_child(tunnel, child, now, lambda session, one: timers.expire(session, one, now))

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        def step(session: IkeSession, _one: Child) -> None:
            elsewhere.follow(session, replace(session.path, remote=remote), now)

        return self._sas.run_child(tunnel, child, now, step)

    def probe(self, tunnel: str, octets: int, first_wait: float, now: float) -> list[Action] | None:
        session = self._sas.current(tunnel)
        if session is None or session.state is not State.ESTABLISHED or any(session.pending()):
            return None
        session.enqueue(PathProbe(octets, first_wait, session.peer.liveness.retries))
        return self._sas.run(session, now, lambda: send_next(session, now))

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        sessions = (one for one in self._sas.sessions.of_tunnel(tunnel) if one.state is State.ESTABLISHED and one.in_use)
        return self._sas.each([(one, one.check_liveness) for one in sessions], now)

    def close(self, now: float) -> list[Action]:
        sessions = (one for one in self._sas.sessions.all() if one.alive and not one.succession.handed_over)
        return self._sas.each([(one, one.close) for one in sessions], now)

    def forget(self, now: float) -> list[Action]:
        self._admission.renew()
        self.environment.watcher.cookie_secret(self._admission.cookie_secret)
        return self._sas.each([(one, one.forget) for one in self._sas.sessions.all()], now)

    # ---- what is there

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        sessions = self._sas.sessions.of_tunnel(tunnel)
        return tuple(report.status(session, now) for session in sessions if session.in_use)

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return tuple([report.summary(session, now) for session in self._latest(tunnel)][::-1])

    def has_ike_sa(self, tunnel: str) -> bool:
        return any(report.state(session) != "closing" for session in self._latest(tunnel))

    def _latest(self, tunnel: str) -> Iterator[IkeSession]:
        """The newest first."""
        return islice((session for session in self._sas.sessions.newest_of_tunnel(tunnel) if session.in_use), LATEST)

    def rekey_in(self, child: int, now: float) -> float | None:
        one, session = self._sas.child(child)
        return None if one is None or session is None or session.state is not State.ESTABLISHED else report.rekey_in(one, now)

    def post_quantum(self, child: int) -> PostQuantum:
        one, _ = self._sas.child(child)
        return NOTHING if one is None else report.post_quantum(one)

    def retransmissions(self, tunnel: str) -> int:
        return self.gateway.retransmissions.get(tunnel, 0)

    def sessions(self, tunnel: str | None = None) -> tuple[IkeSession, ...]:
        """The IKE SAs that are held of a tunnel, or of all, oldest first: those too that are replaced or linger."""
        return self._sas.sessions.all() if tunnel is None else self._sas.sessions.of_tunnel(tunnel)

    # ---- what is carried away, and taken over (`ike.carried`)

    @property
    def last_number(self) -> int:
        """Of the CHILD_SA that was made last."""
        return self.gateway.number

    def carried(self) -> tuple[list[IkeSession], list[IkeSession]]:
        """The IKE SAs of tunnels, of each oldest first; and those among all that have something to do, the first one first."""
        return list(self._sas.sessions.by_tunnel()), self._sas.due()

    def peer(self, tunnel: str) -> Peer | None:
        """What a tunnel says now; None: it is not there."""
        return self.gateway.peers.get(tunnel)

    def has_spi(self, own_spi: bytes) -> bool:
        """Whether an IKE SA here has it."""
        return own_spi in self._sas.sessions

    def has_child(self, number: int) -> bool:
        """Whether a CHILD_SA here has it."""
        return self._sas.child(number)[0] is not None

    def strangers(self) -> list[IkeSession]:
        """Those whose peer has proven nothing yet, and that he began."""
        return [session for session in self._sas.sessions.all() if not session.authenticated and not session.sa.initiator]

    def knows_request(self, session: IkeSession) -> bool:
        """Whether a repeat of the first message finds it."""
        return self._sas.sessions.by_request(session.handshake.request_key) is session

    def tallies(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was counted, and how often each tunnel's requests were sent again."""
        return dict(self.gateway.counts), dict(self.gateway.retransmissions)

    def go_on_from(self, number: int, tallies: tuple[Mapping[str, int], Mapping[str, int]]) -> None:
        """Numbers of CHILD_SAs follow those that another gave, and what it counted is counted on."""
        self.gateway.number = max(self.gateway.number, number)
        self.gateway.counts.update(tallies[0])
        self.gateway.retransmissions.update(tallies[1])

    def take_over(self, session: IkeSession, *, by_request: bool) -> None:
        """An IKE SA that was carried here is one of these from now on; `settle` follows for all that came together."""
        self._sas.take_over(session, by_request=by_request)
        if session.children.holder is not session:
            return
        for child in session.children.values():
            self._sas.holds(child)
            if child.installed and child.state is not ChildState.DELETED:
                self.holdings.hold(child, session.peer, session.ends.theirs)

    def settle(self, session: IkeSession) -> None:
        """It was taken over with all that belongs to it: its times count."""
        self._sas.settle(session)

    @property
    def empty(self) -> bool:
        """True when nothing at all is held of any peer."""
        return self._sas.empty

    def counters(self) -> Counters:
        counted = {
            name: self.gateway.counts[name] for name in Counters.__dataclass_fields__ if name not in ("half_open", "sessions")
        }
        return Counters(**counted, half_open=len(self._admission.half_open), sessions=len(self._sas.sessions))


def _terminate(session: IkeSession, now: float) -> list[Action]:
    delete.ike(session, Cause.LOCAL, "terminated here", now)
    return send_next(session, now)


def _acquire(session: IkeSession, packet: SelectorPair | None, now: float) -> list[Action]:
    acquire.acquire(session, packet)
    return send_next(session, now)
