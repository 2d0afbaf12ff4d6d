"""All IKE SAs of one gateway: whose a datagram is, who may begin one, and how many may be between the same two ends.

Implements `interface.IkeCore`. What it keeps for strangers is bounded (`cookies`); IKE SAs that authenticated peers make are
bounded for each tunnel.
"""

from __future__ import annotations

import heapq
from collections import Counter
from functools import partial
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.ike import cookies
from ipsec_dp.ike.actions import Action, Cause, Event, Kind, Report, Send
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.interface import Counters, IkeStatus
from ipsec_dp.ike.peer import Unique
from ipsec_dp.ike.traffic_selectors import of_packet
from ipsec_dp.ike.v2 import acquire, delete, ike_rekey, reconfigure, replacement, report, timers
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2.errors import Ikev1MessageError, InvalidMajorVersionError
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.payloads import Nonce, Notify
from ipsec_dp.ike.v2.probe import PathProbe
from ipsec_dp.ike.v2.sa import NO_SPI, State
from ipsec_dp.ike.v2.session import IkeSession, initiator, responder
from ipsec_dp.ike.v2.unsolicited import Unsolicited
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipsec_dp.ike.actions import Endpoint, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.sa import Child
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

MAX_OF_TUNNEL: Final = 32  # IKE SAs that one tunnel's peer may have with us
IKEV1_EVERY: Final = 60.0  # seconds between two events about IKEv1 datagrams
STRANGER_EVERY: Final = 10.0  # seconds between two events of a kind about requests that come to nothing


class IkeManager:
    """See `interface.IkeCore` for its calls."""

    def __init__(self, environment: Environment, peers: Iterable[Peer] = ()) -> None:
        self.environment = environment
        self._peers: dict[str, Peer] = {}
        self._at: dict[tuple[Address | None, Address | None], list[Peer]] = {}  # by remote and local address; None: any
        self._by_spi: dict[bytes, IkeSession] = {}
        self._by_request: dict[tuple[bytes, Endpoint], IkeSession] = {}  # of IKE_SA_INIT requests we answered
        self._of_tunnel: dict[str, list[IkeSession]] = {}
        self._of_ends: dict[object, list[IkeSession]] = {}  # by both identities, once they are proven
        self._due: list[tuple[float, int, IkeSession]] = []
        self._planned: dict[IkeSession, float] = {}
        self._order = count()
        self._numbers = count(1)
        self._half_open: Counter[object] = Counter()  # by address
        self._half_open_of: dict[IkeSession, object] = {}
        self._counts: Counter[str] = Counter()
        self._cookies = cookies.Cookies(environment.rng)
        self._unsolicited = Unsolicited()
        self._quiet_until: dict[Kind, float] = {}
        self.set_peers(peers)

    def set_peers(self, peers: Iterable[Peer]) -> None:
        self._peers = {peer.tunnel: peer for peer in peers}
        self._at = {}
        for peer in self._peers.values():
            for address in peer.remotes or (None,):
                self._at.setdefault((address, peer.local), []).append(peer)

    def follow(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        self.set_peers(peers)
        actions: list[Action] = []
        for tunnel, effect in effects.items():
            for session in list(self._of_tunnel.get(tunnel, ())):
                if session.alive and not session.handed_over and not session.withdrawn:
                    actions += self._run(session, now, partial(self._follow, session, effect, now))
        for session in list(self._half_open_of):  # it may be about to prove that it is one of them
            left = tuple(self._peers[one.tunnel] for one in session.candidates if one.tunnel in self._peers)
            if left:
                session.candidates = left
            else:
                actions += self._run(session, now, partial(self._follow, session, Effect.RESTART, now))
        return actions

    def _follow(self, session: IkeSession, effect: Effect, now: float) -> list[Action]:
        reconfigure.follow(session, self._peers.get(session.peer.tunnel), effect, now)
        return _pumped(session, now)

    # ---- what sessions ask

    def next_child(self) -> int:
        return next(self._numbers)

    def count(self, counter: str) -> None:
        self._counts[counter] += 1

    def first_contact(self, session: IkeSession) -> bool:
        return not self._others(session)

    def admits(self, session: IkeSession) -> bool:
        if len(self._of_tunnel.get(session.peer.tunnel, ())) > MAX_OF_TUNNEL:
            return False
        others = [other for other in self._others(session) if other.peer.tunnel == session.peer.tunnel]
        return session.peer.unique is not Unique.KEEP or all(
            replacement.overlap(other, session) or replacement.succeeds(session, other) for other in others
        )

    def configured(self, peer: Peer) -> Peer:
        return self._peers.get(peer.tunnel, peer)

    def came_up(self, session: IkeSession, now: float) -> None:
        old = next((other for other in self._others(session) if replacement.in_place(session, other)), None)
        if old is not None:
            replacement.come_up(session, old, now)

    def _others(self, session: IkeSession) -> list[IkeSession]:
        """Further IKE SAs that are up between the same identities, of whatever tunnel."""
        up = (other for other in self._of_ends.get(_ends(session), ()) if other is not session)
        return [one for one in up if one.state is State.ESTABLISHED and not one.handed_over and not one.withdrawn]

    # ---- datagrams

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        try:
            message = parse_message(datagram)
        except Ikev1MessageError:
            self.count("ikev1")
            return self._tell_rarely(Kind.IKEV1, f"{path.remote} offers IKEv1, which is not spoken here", now, IKEV1_EVERY)
        except InvalidMajorVersionError:
            self.count("malformed")
            return self._answer(NotifyType.INVALID_MAJOR_VERSION, datagram, path, now)
        except IkeSyntaxError:
            self.count("malformed")
            return []
        header = message.header
        spi = header.spi_r if header.from_initiator else header.spi_i
        session = self._by_spi.get(spi)
        if session is None and header.exchange == ExchangeType.IKE_SA_INIT and not header.is_response:
            return self._receive_init(datagram, message, path, now)
        if session is None or not _fits(session, header):
            self.count("unknown_spi")
            known = (
                header.spi_i in self._by_spi or header.spi_r in self._by_spi
            )  # one of our own messages, come back, or half of one
            return [] if known else self._answer(NotifyType.INVALID_IKE_SPI, datagram, path, now)
        return self._run(session, now, lambda: session.receive(datagram, message, path, now))

    def _answer(self, notify_type: NotifyType, datagram: bytes, path: Path, now: float) -> list[Action]:
        reply = self._unsolicited.answer(notify_type, datagram, now)
        return [] if reply is None else [Send(reply, path)]

    def _receive_init(self, datagram: bytes, message: Message, path: Path, now: float) -> list[Action]:
        """Somebody begins. State is made only for a whole request, from where a peer may come, within the limits."""
        header = message.header
        if header.spi_r != NO_SPI or header.message_id != 0 or not header.from_initiator or header.spi_i in self._by_spi:
            self.count("malformed")
            return []
        known = self._by_request.get((header.spi_i, path.remote))
        if known is not None:
            return self._run(known, now, lambda: known.receive(datagram, message, path, now))
        candidates = self._candidates(path)
        if not candidates:
            self.count("no_peer")
            text = f"{path.remote} begins IKE with {path.local.address}, and no tunnel expects anybody from there"
            return self._tell_rarely(Kind.WARNING, text, now, STRANGER_EVERY)
        half_open, of_address = self._half_open.total(), self._half_open[path.remote.address]
        if cookies.full(half_open, of_address):
            self.count("refused")
            return []
        if cookies.needs_cookie(half_open, of_address) and not self._brings_cookie(message, path.remote):
            self.count("cookies_sent")
            cookie = Notify(NotifyType.COOKIE, self._cookies.make(_nonce(message), header.spi_i, path.remote, now))
            reply = Header(header.spi_i, NO_SPI, header.exchange, Flag.RESPONSE, 0)
            return [Send(build_message(Message(reply, (cookie,))), path)]
        session = responder(self, candidates, header.spi_i, path, now)
        actions = session.receive(datagram, message, path, now)
        if session.state is State.INIT_ANSWERED:
            self._by_request[header.spi_i, path.remote] = session
            self._half_open[path.remote.address] += 1
            self._half_open_of[session] = path.remote.address
            self._add(session)
            self._plan(session)
            return actions
        return [
            action for action in actions if not isinstance(action, Report) or self._may_tell(action.event.kind, now, STRANGER_EVERY)
        ]

    def _brings_cookie(self, message: Message, remote: Endpoint) -> bool:
        notify = message.notify(NotifyType.COOKIE)
        return notify is not None and self._cookies.good(notify.data, _nonce(message), message.header.spi_i, remote)

    def _candidates(self, path: Path) -> tuple[Peer, ...]:
        """Who may be calling: tunnels with that very address before those that take any."""
        remotes, locals_ = (path.remote.address, None), (path.local.address, None)
        return tuple(peer for remote in remotes for local in locals_ for peer in self._at.get((remote, local), ()))

    # ---- time

    def next_timeout(self) -> float | None:
        while self._due and self._planned.get(self._due[0][2]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def timer(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while (at := self.next_timeout()) is not None and at <= now:
            session = heapq.heappop(self._due)[2]
            del self._planned[session]
            actions += self._run(session, now, lambda session=session: session.timer(now))  # type: ignore[misc]
        return actions

    def _plan(self, session: IkeSession) -> None:
        at = session.next_timeout()
        if at == inf:
            self._planned.pop(session, None)
        elif self._planned.get(session) != at:
            self._planned[session] = at
            heapq.heappush(self._due, (at, next(self._order), session))

    # ---- commands

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        peer = self._peers[tunnel]
        up = self._current(tunnel)
        if up is not None:
            return self._run(up, now, lambda: _wish(up, packet, now))
        session = initiator(self, peer, path, now)
        session.wanted = peer.proxy_ids if packet is None else ()
        self._add(session)
        asked = None if packet is None else of_packet(packet)
        return self._run(session, now, lambda: session.initiate(now, packet=asked))

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        session = self._current(tunnel)
        if session is None:
            return None
        return self._run(session, now, lambda: _wish(session, packet, now))

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        session = self._current(tunnel)
        if session is None or session.state is not State.ESTABLISHED:
            return []

        def step() -> list[Action]:
            if ike:
                ike_rekey.ike(session)
            else:
                for child in list(session.children.values()):
                    timers.rekey_child(session, child, now)
            return _pumped(session, now)

        return self._run(session, now, step)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        actions: list[Action] = []
        for session in list(self._of_tunnel.get(tunnel, ())):
            if session.alive and not session.handed_over:
                actions += self._end(session, Cause.LOCAL, "terminated here", now)
        return actions

    def leave(self, tunnel: str, now: float) -> list[Action]:
        """Ends a tunnel's IKE SAs at once, each with one DELETE whose answer nobody waits for: the way to the peer is gone."""
        actions: list[Action] = []
        for session in list(self._of_tunnel.get(tunnel, ())):
            if session.alive:
                actions += self._run(session, now, lambda session=session: session.close(now))  # type: ignore[misc]
        return actions

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        def step(session: IkeSession, one: Child) -> None:
            delete.child(session, one, now)
            session.report(Kind.CHILD_DOWN, "deleted here", cause=Cause.LOCAL, child=child)

        return self._child_step(tunnel, child, now, step)

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._child_step(tunnel, child, now, lambda session, one: timers.rekey_child(session, one, now))

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._child_step(tunnel, child, now, lambda session, one: timers.expire(session, one, now))

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        def step(session: IkeSession, _one: Child) -> None:
            session.move(type(session.path)(session.path.local, remote, session.path.natt), now)

        return self._child_step(tunnel, child, now, step)

    def probe(self, tunnel: str, octets: int, first_wait: float, now: float) -> list[Action] | None:
        session = self._current(tunnel)
        if session is None or session.state is not State.ESTABLISHED or session.task is not None or session.queue:
            return None
        session.enqueue(PathProbe(octets, first_wait, session.peer.liveness.retries))
        return self._run(session, now, lambda: _pumped(session, now))

    def close(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for tunnel in list(self._of_tunnel):
            for session in list(self._of_tunnel.get(tunnel, ())):
                if session.alive and not session.handed_over:
                    actions += self._run(session, now, lambda session=session: session.close(now))  # type: ignore[misc]
        return actions

    def forget(self, now: float) -> list[Action]:
        self._cookies = cookies.Cookies(self.environment.rng)
        actions: list[Action] = []
        for sessions in list(self._of_tunnel.values()):
            for session in list(sessions):
                actions += self._run(session, now, lambda session=session: session.forget(now))  # type: ignore[misc]
        return actions

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        sessions = self._of_tunnel.get(tunnel, ())
        shown = (one for one in sessions if one.alive and not one.handed_over and not one.withdrawn)
        return tuple(report.status(session, now) for session in shown)

    def counters(self) -> Counters:
        counted = {name: self._counts[name] for name in Counters.__dataclass_fields__ if name not in ("half_open", "sessions")}
        return Counters(**counted, half_open=self._half_open.total(), sessions=len(self._by_spi))

    # ---- sessions

    def _current(self, tunnel: str) -> IkeSession | None:
        """The newest IKE SA of a tunnel that is up, else one that we are making."""
        alive = [s for s in self._of_tunnel.get(tunnel, ()) if s.alive and not s.handed_over and not s.withdrawn]
        sessions = [session for session in alive if session.state is not State.DELETING]
        up = [session for session in sessions if session.state is State.ESTABLISHED and not replacement.replaced(session)]
        ours = [session for session in sessions if session.sa.initiator]
        return up[-1] if up else ours[-1] if ours else None

    def _child_step(self, tunnel: str, child: int, now: float, step: Callable[[IkeSession, Child], None]) -> list[Action]:
        for session in self._of_tunnel.get(tunnel, ()):
            one = session.children.get(child)
            if one is not None and not session.handed_over:

                def run(session: IkeSession = session, one: Child = one) -> list[Action]:
                    step(session, one)
                    return _pumped(session, now)

                return self._run(session, now, run)
        return []

    def _add(self, session: IkeSession) -> None:
        self._by_spi[session.sa.own_spi] = session
        self._of_tunnel.setdefault(session.peer.tunnel, []).append(session)

    def _run(self, session: IkeSession, now: float, step: Callable[[], list[Action]]) -> list[Action]:
        """Let a session act, then see what became of it."""
        tunnel, was_up = session.peer.tunnel, session.authenticated
        actions = step()
        for new in session.spawned:
            self._add(new)
            if new.authenticated:
                self._of_ends.setdefault(_ends(new), []).append(new)
        spawned, session.spawned = session.spawned, []
        for new in spawned:
            actions += self._run(new, now, lambda new=new: _pumped(new, now))  # type: ignore[misc]
        if session.peer.tunnel != tunnel:  # IKE_AUTH told whose it is
            _take_out(self._of_tunnel, tunnel, session)
            self._of_tunnel.setdefault(session.peer.tunnel, []).append(session)
        if session.authenticated or session.state is State.CLOSED:
            address = self._half_open_of.pop(session, None)
            if address is not None:
                self._half_open[address] -= 1
                if not self._half_open[address]:
                    del self._half_open[address]
        if session.authenticated and not was_up:
            self._of_ends.setdefault(_ends(session), []).append(session)
            actions += self._one_of_each(session, now)
        for one in list(self._of_tunnel.get(session.peer.tunnel, ())):  # a rekey touches two of them
            if one.state is State.CLOSED:
                self._drop(one)
            else:
                self._plan(one)
        return actions

    def _drop(self, session: IkeSession) -> None:
        self._by_spi.pop(session.sa.own_spi, None)
        self._planned.pop(session, None)
        _take_out(self._of_tunnel, session.peer.tunnel, session)
        _take_out(self._of_ends, _ends(session), session)
        if self._by_request.get(session.request_key) is session:
            del self._by_request[session.request_key]

    def _one_of_each(self, session: IkeSession, now: float) -> list[Action]:
        """An IKE SA came up: what of the others between the same identities (RFC 7296 §2.4, and `unique`)?"""
        actions: list[Action] = []
        for other in self._others(session):
            if replacement.overlap(other, session):
                loser = min(session, other, key=lambda one: one.lowest_nonce)
                if loser.sa.initiator:
                    text = "both sides began at once; the other IKE SA stays"
                    actions += self._end(loser, Cause.REPLACED, text, now)
                    winner = session if loser is other else other
                    children.use(winner)
                    actions += winner.take()
                else:
                    loser.deadlines.leave_at = now + replacement.DOUBLED
                    actions += self._run(loser, now, list)
            elif other.after is session:
                continue
            elif session.initial_contact and session.peer.unique is not Unique.NEVER:
                actions += self._run(other, now, lambda other=other: other.vanish(now))  # type: ignore[misc]
            elif session.peer.unique is Unique.REPLACE and session.peer.tunnel == other.peer.tunnel:
                actions += self._end(other, Cause.REPLACED, "a newer IKE SA is between the same identities", now)
        return actions

    def _end(self, session: IkeSession, cause: Cause, text: str, now: float) -> list[Action]:
        def step() -> list[Action]:
            delete.ike(session, cause, text, now)
            return _pumped(session, now)

        return self._run(session, now, step)

    def _tell_rarely(self, kind: Kind, text: str, now: float, every: float) -> list[Action]:
        return [Report(Event(kind, "", NO_SPI, NO_SPI, "", text))] if self._may_tell(kind, now, every) else []

    def _may_tell(self, kind: Kind, now: float, every: float) -> bool:
        """An event that any stranger can cause is told at most so often."""
        if now < self._quiet_until.get(kind, now):
            return False
        self._quiet_until[kind] = now + every
        return True


def _fits(session: IkeSession, header: Header) -> bool:
    """Both SPIs are those of the session; its responder's is not known before the first response."""
    spis = (session.sa.spi_i, session.sa.spi_r)
    return header.spi_i == spis[0] and (header.spi_r == spis[1] or session.state is State.INIT_SENT)


def _nonce(message: Message) -> bytes:
    nonce = message.get(Nonce)
    return b"" if nonce is None else nonce.data


def _ends(session: IkeSession) -> object:
    """Both identities, ours first."""
    return None if session.identities is None else tuple(identity.meaning() for identity in session.identities)


def _take_out(index: dict[Any, list[IkeSession]], key: object, session: IkeSession) -> None:
    sessions = index.get(key, [])
    if session in sessions:
        sessions.remove(session)
        if not sessions:
            del index[key]


def _wish(session: IkeSession, packet: SelectorPair | None, now: float) -> list[Action]:
    if packet is None:
        acquire.for_all(session, now)
    else:
        acquire.for_packet(session, packet)
    return _pumped(session, now)


def _pumped(session: IkeSession, now: float) -> list[Action]:
    session.pump(now)
    return session.take()
