"""All ISAKMP SAs of one gateway: whose a datagram is, who may begin one, what is with each peer.

It has the calls of `interface.IkeCore` for the tunnels that are to speak IKEv1; `core` puts it beside IKEv2's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI, Cause, Kind
from ipsec_dp.ike.authenticated import Accounts
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import IkeSaTraits
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.later import AT_ONCE, Later
from ipsec_dp.ike.peer import Unique
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.strangers import LIMITS, Allowance, HalfOpenSas, HeldOctets, KeyExchanges
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ike.traffic_selectors import asked_by
from ipsec_dp.ike.v1 import (
    aggressive_mode,
    informational,
    ipsec_sas,
    main_mode,
    peerings,
    receiving,
    report,
    silence,
    upkeep,
    words,
)
from ipsec_dp.ike.v1.context import MODES, IsakmpContext, Peering
from ipsec_dp.ike.v1.expected_peers import ExpectedPeers
from ipsec_dp.ike.v1.message import parse_isakmp_header
from ipsec_dp.ike.v1.peering_index import PeeringIndex
from ipsec_dp.ike.v1.sa import IsakmpSa, ReceivedDatagram, fresh_cookie
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import COOKIE, ExchangeMode, PayloadKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipsec_dp.ike.actions import Action, Endpoint, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.interface import IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.message import IsakmpHeader
    from ipsec_dp.ike.v1.sa import IpsecSa
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

LATEST: Final = 32  # ISAKMP SAs of a tunnel by which its state is judged
_Step = Callable[[float], None]  # of `now`

BEGUN: Final = frozenset({IsakmpState.SA_SENT, IsakmpState.AGGRESSIVE_SENT})  # by us, and the peer has not answered


class IsakmpManager:
    """See `interface.IkeCore` for its calls. `numbers`: of IPsec SAs, which no version gives twice.

    `tries_first`: an ISAKMP SA of a tunnel is to be renewed, on this path and within so many seconds; whether something else is
    tried before that, so that nothing is begun here.
    """

    def __init__(
        self,
        environment: Environment,
        numbers: Callable[[], int],
        events: StrangersEvents,
        tries_first: Callable[[str, Path, float, float], bool] = lambda *_: False,
    ) -> None:
        self.environment = environment
        self.next_child = numbers
        self.tries_first = tries_first
        self.held_beside: Callable[[ProxyId, Peer, Identity], str | None] = lambda *_: None  # the same as `has_taken`, by IKEv2
        self._peers = ExpectedPeers(environment.watcher)
        self._events = events
        self._sessions: dict[bytes, IsakmpContext] = {}  # by our cookie
        self._requests: dict[tuple[bytes, Endpoint], IsakmpContext] = {}  # of messages 1 that we answered
        self._calls: dict[str, dict[IsakmpContext, None]] = {}  # main modes of ours, by tunnel
        self._peerings = PeeringIndex()
        self._later: Later[IsakmpContext | Peering, None] = Later()
        self._timers: TimerQueue[IsakmpContext | Peering] = TimerQueue()
        self._half_open: HalfOpenSas[IsakmpContext] = HalfOpenSas()
        self._fragments: HeldOctets[IsakmpContext] = HeldOctets()
        self._refusals = Allowance(LIMITS.answers_a_second)
        self._key_exchanges = KeyExchanges()
        self._accounts = Accounts()
        self.counts: Counter[str] = Counter()
        self._told: dict[bytes, IkeSaTraits] = {}  # to the watcher, by our cookie
        self._retransmissions: Counter[str] = Counter()  # by tunnel
        self._actions: list[Action] = []

    # ---- what ISAKMP SAs ask (`context.IsakmpHost`)

    def emit(self, *actions: Action) -> None:
        self._actions += actions

    def holds(self, number: int, peering: Peering) -> None:
        self._peerings.holds(number, peering)

    def count(self, counter: str) -> None:
        self.counts[counter] += 1

    def retransmitted(self, tunnel: str) -> None:
        self._retransmissions[tunnel] += 1
        self.count("retransmissions")

    def may_hold(self, context: IsakmpContext, address: Address, octets: int) -> bool:
        return self._fragments.hold(context, address, octets)

    def holds_nothing(self, context: IsakmpContext) -> None:
        self._fragments.discard(context)

    def lacks(self, context: IsakmpContext) -> bool:
        peering = next((one for one in self._peerings.newest_of_tunnel(context.peer.tunnel) if not one.over), None)
        return self._peers.get(context.peer.tunnel) is not None and (peering is None or peering.current is None)

    def may_refuse(self, now: float) -> bool:
        return self._refusals.take(now)

    def may_begin(self, address: Address, now: float) -> bool:
        return self._key_exchanges.take(address, now)

    def expected(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        return tuple(peer for one in peers if (peer := self._peers.get(one.tunnel)) is not None)

    def first_contact(self, context: IsakmpContext) -> bool:
        return not self.environment.on_trial and not self._peerings.any_at(context.path.remote.address)

    def came_up(self, context: IsakmpContext, now: float) -> None:
        self._half_open.discard(context)
        self._fragments.discard(context)
        self._calls.get(context.peer.tunnel, {}).pop(context, None)
        key = self._key(context)
        peering = self._peerings.of_key(key)
        if peering is not None:
            self._catch_up(peering, now)
        if peering is None or peering.over:
            peering = Peering(self, context.peer, key)
            self._peerings.add(peering)
            if not context.sa.initiator:
                peering.wanted.leave_to_peer(now, self.environment.rng)
        peering.configure(context.peer)
        peering.account = self._accounts.of(key, len(context.peer.proxy_ids))
        peerings.joined(peering, context, now)
        self._in_vain(context)
        if context.negotiation.initial_contact and not context.sa.initiator:
            peerings.began_anew(context, now)
        for asked in context.negotiation.asked:
            if asked is None:
                peering.wanted.ask_for_all()
            else:
                peering.wanted.ask_for(asked)
        self._settle(peering, now)

    def _in_vain(self, context: IsakmpContext) -> None:
        """Of our calls those that nobody has answered, by which the very peer has called us: what they were for is wanted here."""
        if context.sa.initiator or context.peer.unique is Unique.NEVER:
            return
        for call in list(self._calls.get(context.peer.tunnel, ())):
            if call.state in BEGUN:
                context.negotiation.asked += call.negotiation.asked
                call.close()
                self._drop(call)

    def _key(self, context: IsakmpContext) -> object:
        identities = context.proven.identities or ()
        where = context.path.remote if context.peer.unique is Unique.NEVER else None
        return context.peer.tunnel, tuple(one.meaning() for one in identities), where

    def taken_by(self, peering: Peering, pair: ProxyId) -> str | None:
        identities = None if peering.current is None else peering.current.proven.identities
        if peering.peer.remotes or identities is None:
            return None
        theirs = identities[1]
        return self.has_taken(pair, peering.peer, theirs) or self.held_beside(pair, peering.peer, theirs)

    def has_taken(self, pair: ProxyId, _peer: Peer, theirs: Identity) -> str | None:
        """Who has a part of `pair` by IKEv1, and is somebody else."""
        return self._peerings.taken_by(theirs, pair)

    def call(self, peering: Peering, now: float) -> None:
        tunnel, last = peering.peer.tunnel, peering.current or peering.last
        if last is None or peering.calling or self._peers.get(tunnel) is None:
            return
        if self.tries_first(tunnel, last.path, min(last.deadlines.hard, peering.wait_until) - now, now):
            return
        peering.calling = True
        self._begin(self._peers[tunnel], last.path, now, ())

    # ---- tunnels

    @property
    def idle(self) -> bool:
        """True when no tunnel is to speak IKEv1 and nothing is held."""
        return not self._peers and not self._sessions and not self._peerings

    def set_peers(self, peers: Iterable[Peer]) -> None:
        self._peers.clear()
        for peer in peers:
            self.set_peer(peer)

    def set_peer(self, peer: Peer) -> None:
        self._peers.set(peer)

    def reconfigure(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        new = {peer.tunnel: peer for peer in peers}
        for peer in new.values():
            self.set_peer(peer)
        for tunnel in effects.keys() - new.keys():
            self._peers.discard(tunnel)
            self._retransmissions.pop(tunnel, None)
        steps: list[tuple[IsakmpContext | Peering, _Step]] = []
        for tunnel, effect in effects.items():
            steps += self._to_reconfigure(tunnel, effect)
        return self._each(steps, now)

    def _to_reconfigure(self, tunnel: str, effect: Effect) -> Iterator[tuple[IsakmpContext | Peering, _Step]]:
        peer = self._peers.get(tunnel)
        if peer is None or effect is Effect.RESTART:
            for context in self._calls.pop(tunnel, {}):
                context.close()
                self._drop(context)
        else:
            for context in self._calls.get(tunnel, ()):  # what it comes up with is what is written now
                context.peer = peer
        for peering in self._peerings.of_tunnel(tunnel):
            if peer is None or effect is Effect.RESTART:
                peering.withdrawn = True  # at once: a new one may begin before its turn has come
                yield peering, partial(peerings.withdraw, peering)
            else:
                yield peering, partial(upkeep.fit, peering, peer, effect)

    # ---- many at once

    def _each(self, steps: Iterable[tuple[IsakmpContext | Peering, _Step]], now: float) -> list[Action]:
        """Lets something happen to each of many: to AT_ONCE of them now."""
        self._later.add(steps)
        self._go_on(now)
        return self._take(now)

    def _go_on(self, now: float) -> None:
        for thing in self._later.first():
            self._catch_up(thing, now)

    def _catch_up(self, thing: IsakmpContext | Peering | None, now: float) -> None:
        """What waits for it happens before anything else does to it."""
        if thing is not None and self._later.catch_up(thing, now):
            if isinstance(thing, Peering):
                self._settle(thing, now)
            else:
                self._settle_session(thing, now)

    def unfinished(self) -> bool:
        return bool(self._later)

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        peer = self._peers.get(tunnel)
        return [] if peer is None else self.reconfigure((peer,), {tunnel: Effect.RECHECK}, now)

    def candidates(self, path: Path) -> Candidates | None:
        """Whom somebody there may be; None: nobody is expected."""
        return self._peers.candidates(path)

    # ---- datagrams

    def knows(self, datagram: bytes) -> bool:
        session = self._find(datagram[:COOKIE], datagram[COOKIE : 2 * COOKIE])
        return session is not None and (session.sa.initiator or session.established)

    def _find(self, cookie_i: bytes, cookie_r: bytes) -> IsakmpContext | None:
        for own in (cookie_r, cookie_i):
            session = self._sessions.get(own)
            if session is not None and session.sa.cookie_i == cookie_i:
                other = session.sa.cookie_r
                if other == cookie_r or session.state in BEGUN:
                    return session
        return None

    def _found(self, header: IsakmpHeader, now: float) -> IsakmpContext | None:
        """The same, and what waits for it has happened."""
        session = self._find(header.cookie_i, header.cookie_r)
        if session is None or not self._later:
            return session
        self._catch_up(session, now)
        self._catch_up(session.peering, now)
        return self._find(header.cookie_i, header.cookie_r)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        try:
            header, first = parse_isakmp_header(datagram)
        except IkeSyntaxError:
            self.count("malformed")
            return []
        self.environment.trace.described(datagram, partial(words.outside, header, len(datagram)), proven=False)
        received = ReceivedDatagram(header, first, datagram, path, now)
        session = self._found(header, now)
        if session is None and header.cookie_r == NO_SPI and header.exchange in MODES and not header.encrypted:
            return self._receive_first(received)
        if session is None:
            self.count("unknown_spi")
            return []
        returned = session.state is IsakmpState.SA_ANSWERED
        receiving.receive(session, received)
        if returned and session.state is IsakmpState.KE_ANSWERED and path.remote.address in session.peer.remotes:
            self._half_open.discard(session)
            self._push_out(self._half_open.add(session, path.remote.address, reserved=True))
        return self._done(session, now)

    def _receive_first(self, received: ReceivedDatagram) -> list[Action]:
        """Somebody begins. State is made for a proposal that a tunnel admits, from where a peer may come, within the limits."""
        header, path, now = received.header, received.path, received.now
        a_part = received.first == PayloadKind.FRAGMENT  # what it would be kept for is not there before somebody shows our cookie
        if a_part or len(received.datagram) > LIMITS.init_octets or header.cookie_i in self._sessions:
            self.count("malformed")
            return []
        known = self._requests.get((header.cookie_i, path.remote))
        self._catch_up(known, now)
        if known is not None and known.alive:
            receiving.receive(known, received)
            return self._done(known, now)
        candidates = self._peers.candidates(path)
        if candidates is None:
            self.count("no_peer")
            text = f"{path.remote} begins IKEv1 with {path.local.address}, and no tunnel expects anybody from there"
            return self._events.report(Kind.WARNING, text, now)
        sa = IsakmpSa(initiator=False, cookie_i=header.cookie_i, exchange=ExchangeMode(header.exchange))
        session = IsakmpContext(self, candidates, sa, path, now)
        receiving.receive(session, received)
        if session.state in (IsakmpState.SA_ANSWERED, IsakmpState.AGGRESSIVE_ANSWERED):
            self._sessions[session.sa.cookie_r] = self._requests[session.request_key] = session
            self._push_out(self._half_open.add(session, path.remote.address))
        return self._done(session, now)

    def _push_out(self, session: IsakmpContext | None) -> None:
        """Others came after it."""
        if session is not None:
            self.count("refused")
            session.close()
            self._drop(session)

    # ---- time

    def next_timeout(self) -> float | None:
        return -inf if self._later else self._timers.next()

    def timer(self, now: float) -> list[Action]:
        self._go_on(now)
        for _ in range(AT_ONCE if not self._later else 1):
            owner = self._timers.pop(now)
            if owner is None:
                break
            self._catch_up(owner, now)
            if isinstance(owner, Peering):
                if not owner.over:
                    upkeep.peering_due(owner, now)
                self._settle(owner, now)
            else:
                self._catch_up(owner.peering, now)
                if owner.alive:
                    upkeep.due(owner, now)
                self._settle_session(owner, now)
        return self._take(now)

    def _done(self, session: IsakmpContext, now: float) -> list[Action]:
        self._settle_session(session, now)
        return self._take(now)

    def _settle_session(self, session: IsakmpContext, now: float) -> None:
        """Its timer or its end, and what is with its peer."""
        peering = session.peering
        if not session.alive:
            self._drop(session)
        elif session.sa.own_cookie in self._sessions:
            self._timers.set(session, upkeep.next_of(session))
            self._tell(session)
        if peering is not None:
            self._settle(peering, now)

    def _settle(self, peering: Peering, now: float) -> None:
        if not peering.over:
            peerings.work(peering, now)
        gone, peering.gone = peering.gone, []
        for session in gone:
            self._drop(session)
        for session in peering.sessions:
            self._timers.set(session, upkeep.next_of(session))
        if peering.over:
            self._timers.discard(peering)
            self._later.discard(peering)
            self._peerings.discard(peering)
        else:
            self._peerings.note(peering)
            self._timers.set(peering, upkeep.next_of_peering(peering))

    def _tell(self, session: IsakmpContext) -> None:
        """Whoever looks at datagrams first knows it by its cookies: there is no ICV by which he could know more."""
        sa = session.sa
        own, peer = (sa.cookie_i, sa.cookie_r) if sa.initiator else (sa.cookie_r, sa.cookie_i)
        traits = IkeSaTraits(own, peer, sa.initiator, session.path.natt, session.established)
        if self._told.get(own) != traits:
            self._told[own] = traits
            self.environment.watcher.known(traits, None)
            if traits.authenticated:
                self.environment.keys.isakmp(sa)

    def _drop(self, session: IsakmpContext) -> None:
        if self._told.pop(session.sa.own_cookie, None) is not None:
            self.environment.watcher.gone(session.sa.own_cookie)
        if self._sessions.get(session.sa.own_cookie) is session:
            del self._sessions[session.sa.own_cookie]
        if self._requests.get(session.request_key) is session:
            del self._requests[session.request_key]
        was_call = self._calls.get(session.peer.tunnel, {}).pop(session, session) is None
        self._timers.discard(session)
        self._later.discard(session)
        self._half_open.discard(session)
        self._fragments.discard(session)
        if was_call:
            for peering in self._peerings.newest_of_tunnel(session.peer.tunnel):
                peering.calling = False

    def _take(self, now: float) -> list[Action]:
        actions, self._actions = self._actions, []
        return self._events.allowed(actions, now)

    # ---- commands

    def _current(self, tunnel: str, now: float) -> Peering | None:
        for one in self._peerings.of_tunnel(tunnel)[::-1] if self._later else self._peerings.newest_of_tunnel(tunnel):
            self._catch_up(one, now)
            if not one.over:
                return one
        return None

    def _begin(self, peer: Peer, path: Path, now: float, asked: tuple[ProxyId | None, ...]) -> None:
        mode = aggressive_mode if peer.mode == "aggressive" else main_mode
        sa = IsakmpSa(initiator=True, cookie_i=fresh_cookie(self.environment.rng), exchange=mode.EXCHANGE)
        session = IsakmpContext(self, Candidates((peer,)), sa, path, now)
        session.negotiation.asked = asked
        self._sessions[sa.cookie_i] = session
        self._calls.setdefault(peer.tunnel, {})[session] = None
        mode.begin(session, now)
        self._settle_session(session, now)

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        peer = self._peers[tunnel]
        asked = None if packet is None else asked_by(packet, peer.proxy_ids)
        if not self._want(tunnel, asked, now):
            self._begin(peer, path, now, (asked,))
        return self._take(now)

    def _want(self, tunnel: str, asked: ProxyId | None, now: float) -> bool:
        """Ask for it where something is up or under way; false where nothing is."""
        peering = self._current(tunnel, now)
        if peering is not None:
            if asked is None:
                peering.wanted.ask_for_all()
            elif not any(pairs[0].covers(asked) for pairs in peering.up.values()):
                peering.wanted.ask_for(asked)
            self._settle(peering, now)
            return True
        call = next(iter(self._calls.get(tunnel, {})), None)
        if call is not None and asked not in call.negotiation.asked:
            call.negotiation.asked = (*call.negotiation.asked, asked)[-LIMITS.hints :]
        return call is not None

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        peer = self._peers.get(tunnel)
        if peer is None or not self._want(tunnel, asked_by(packet, peer.proxy_ids), now):
            return None
        return self._take(now)

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        peering = self._current(tunnel, now)
        if peering is not None and ike:
            self.call(peering, now)
        elif peering is not None:
            for sa in peering.sas.values():
                upkeep.renew(sa, now)
        if peering is not None:
            self._settle(peering, now)
        return self._take(now)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        return self._end(tunnel, "terminated here", now)

    def leave(self, tunnel: str, now: float) -> list[Action]:
        return self._end(tunnel, "closed here", now)

    def _end(self, tunnel: str, text: str, now: float) -> list[Action]:
        return self._each(self._to_end(tunnel, text), now)

    def _to_end(self, tunnel: str, text: str) -> Iterator[tuple[IsakmpContext | Peering, _Step]]:
        for call in tuple(self._calls.get(tunnel, ())):
            yield call, partial(_give_up, call, text)
        for peering in self._peerings.of_tunnel(tunnel):
            yield peering, partial(_end_all, peering, Cause.LOCAL, text)

    def close(self, now: float) -> list[Action]:
        tunnels = dict.fromkeys((*self._peerings.tunnels, *self._calls))
        return self._each((step for tunnel in tunnels for step in self._to_end(tunnel, "closed here")), now)

    def forget(self, now: float) -> list[Action]:
        text = "this virtual machine was cloned or restored, and its keys are another's too"
        steps: list[tuple[IsakmpContext | Peering, _Step]] = [(one, partial(_forget_all, one, text)) for one in self._peerings]
        alone = (session for session in tuple(self._sessions.values()) if session.peering is None)
        return self._each([*steps, *((session, partial(_close, session)) for session in alone)], now)

    def _step(self, tunnel: str, child: int, now: float, step: Callable[[Peering, IpsecSa], None]) -> list[Action]:
        peering = self._peerings.of_child(child)
        self._catch_up(peering, now)
        if peering is not None and peering.peer.tunnel == tunnel and child in peering.sas:
            step(peering, peering.sas[child])
            self._settle(peering, now)
        return self._take(now)

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        def step(peering: Peering, sa: IpsecSa) -> None:
            ipsec_sas.delete(peering, sa, now)
            if peering.current is not None:
                peering.current.report(Kind.CHILD_DOWN, "deleted here", cause=Cause.LOCAL, child=child)

        return self._step(tunnel, child, now, step)

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._step(tunnel, child, now, lambda _, sa: upkeep.spent(sa, now))

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        def step(peering: Peering, sa: IpsecSa) -> None:
            if peering.current is None:
                ipsec_sas.remove(peering, sa)
            else:
                ipsec_sas.expire(peering.current, sa, now)

        return self._step(tunnel, child, now, step)

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        def step(peering: Peering, _sa: IpsecSa) -> None:
            if peering.current is not None:
                peering.current.move(_towards(peering.current.path, remote), now)

        return self._step(tunnel, child, now, step)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        session = self._find(message[:COOKIE], message[COOKIE : 2 * COOKIE])
        if session is None or session.waiting is None or path.remote[:2] != session.path.remote[:2]:
            return []
        end, session.negotiation.unreachable = path.remote, session.path.natt
        session.hint(f"an ICMP message says that UDP port {end.port} of {end.address} is not reached: {reason}")
        return self._done(session, now)

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        """Of main mode it is told as early as IKEv2's."""
        session = self._find(datagram[:COOKIE], datagram[COOKIE : 2 * COOKIE])
        if session is None:
            return []
        silence.unsent(session, datagram, why)
        return self._done(session, now)

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        return self._each([(one, partial(_check, one)) for one in self._peerings.of_tunnel(tunnel)], now)

    # ---- what is there

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return tuple(report.status(one, now) for one in self._in_use(tunnel))

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        up = (one for peering in self._peerings.newest_of_tunnel(tunnel) for one in reversed(peering.sessions) if one.in_use)
        newest = list(islice(up, LATEST)) or [one for one in self._calls.get(tunnel, ()) if one.in_use]
        return tuple(report.status(one, now, listed=False) for one in reversed(newest))

    def _in_use(self, tunnel: str) -> list[IsakmpContext]:
        up = [one for peering in self._peerings.of_tunnel(tunnel) for one in peering.sessions]
        return [one for one in (*self._calls.get(tunnel, ()), *up) if one.in_use and (one.established or not up)]

    def rekey_in(self, child: int, now: float) -> float | None:
        holder = self._peerings.of_child(child)
        return None if holder is None else report.rekey_in(holder, child, now)

    def retransmissions(self, tunnel: str) -> int:
        return self._retransmissions[tunnel]

    def sessions(self, tunnel: str) -> tuple[IsakmpContext, ...]:
        """The ISAKMP SAs of a tunnel, oldest first: those too that are replaced."""
        return tuple(one for peering in self._peerings.of_tunnel(tunnel) for one in peering.sessions)

    # ---- what is carried away, and taken over (`ike.carried`)

    def carried(self) -> tuple[list[Peering], list[IsakmpContext]]:
        """What is with each peer, and the ISAKMP SAs that are with none yet."""
        alone = [session for session in self._sessions.values() if session.peering is None]
        return [one for one in self._peerings if not one.over], alone

    def due(self) -> list[IsakmpContext | Peering]:
        """Whoever has something to do, the first one first."""
        return [owner for owner, _ in self._timers.entries()]

    def peer(self, tunnel: str) -> Peer | None:
        """What a tunnel says now; None: it is not there."""
        return self._peers.get(tunnel)

    def has_cookie(self, own_cookie: bytes) -> bool:
        """Whether an ISAKMP SA here has it."""
        return own_cookie in self._sessions

    def knows_request(self, session: IsakmpContext) -> bool:
        """Whether a repeat of message 1 finds it."""
        return self._requests.get(session.request_key) is session

    def tallies(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was counted, and how often each tunnel's messages were sent again."""
        return dict(self.counts), dict(self._retransmissions)

    def go_on_from(self, tallies: tuple[Mapping[str, int], Mapping[str, int]]) -> None:
        """What another counted is counted on."""
        self.counts.update(tallies[0])
        self._retransmissions.update(tallies[1])

    def key_of(self, context: IsakmpContext) -> object:
        """By which what is with its peer is found."""
        return self._key(context)

    def take_over(self, peering: Peering, by_request: Iterable[IsakmpContext]) -> None:
        """What is with one peer was carried here; `await_times` follows for all that came together. `by_request`: those that a
        repeat of message 1 finds."""
        self._peerings.add(peering)
        peering.account = self._accounts.of(peering.key, len(peering.peer.proxy_ids))
        for number in peering.sas:
            self._peerings.holds(number, peering)
        for session in peering.sessions:
            self._sessions[session.sa.own_cookie] = session
            self._tell(session)
        self._requests |= {session.request_key: session for session in by_request}
        self._peerings.note(peering)

    def await_times(self, owner: IsakmpContext | Peering) -> None:
        """It was taken over with all that belongs to it."""
        at = upkeep.next_of_peering(owner) if isinstance(owner, Peering) else upkeep.next_of(owner)
        self._timers.set(owner, at)

    @property
    def half_open(self) -> int:
        return len(self._half_open)

    @property
    def held(self) -> int:
        """ISAKMP SAs, whoever's."""
        return len(self._sessions)


def _towards(path: Path, remote: Endpoint) -> Path:
    return replace(path, remote=remote)


def _give_up(call: IsakmpContext, text: str, _now: float) -> None:
    call.report(Kind.IKE_FAILED, text, cause=Cause.LOCAL)
    call.close()


def _end_all(peering: Peering, cause: Cause, text: str, _now: float) -> None:
    peerings.end(peering, cause, text)


def _forget_all(peering: Peering, text: str, _now: float) -> None:
    peerings.end(peering, Cause.CLONED, text, again=True, quiet=True)


def _close(session: IsakmpContext, _now: float) -> None:
    session.close()


def _check(peering: Peering, now: float) -> None:
    if peering.current is not None:
        informational.check(peering.current, now)
