"""The IKE core of a gateway: IKEv2's manager, and beside it IKEv1's where a tunnel asks for that version.

Each tunnel speaks one version, in both roles. Which one it is nobody outside asks: calls about a tunnel go to the manager that has
it, a datagram to the one whose version its header names. IKEv1 is loaded with the first tunnel that is to speak it; a gateway
without one answers no IKEv1 message, and reads of it no more than the header.

A tunnel that prefers IKEv2, and may fall to IKEv1, is with both managers until its peer has authenticated with IKEv2
(`version_choice`); then it is IKEv2's alone, and what there was by IKEv1 ends. While it is met by IKEv1 each renewal of phase 1 is
tried by IKEv2 first.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.ike import other_version
from ipsec_dp.ike.actions import Kind, Origin, Report
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.interface import Counters
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.ike.version_choice import PATIENCE, Call, VersionChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipsec_dp.ike.actions import Action, Endpoint, Event, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.interface import IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.post_quantum import PostQuantum
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.manager import IsakmpManager
    from ipsec_dp.ipsec.selectors import SelectorPair

_VERSION: Final = 17  # octet of the header, the same in every version: major and minor
_IKEV1: Final = 1
_UP: Final = frozenset({"up", "rekeying"})
_PROVEN: Final = frozenset({Kind.IKE_UP, Kind.IKE_REAUTHENTICATED})


class IkeVersions:
    """See `interface.IkeCore` for its calls."""

    def __init__(self, environment: Environment, peers: Iterable[Peer] = (), events: StrangersEvents | None = None) -> None:
        self.environment = environment
        self._events = StrangersEvents() if events is None else events
        self.ikev2 = IkeManager(environment, (), self._events)
        self.ikev2.holdings.beside = self._held_by_ikev1
        self.ikev1: IsakmpManager | None = None
        self._of_ikev1: set[str] = set()  # tunnels that speak nothing else
        self._choices: dict[str, VersionChoice] = {}  # of those that may fall to it
        self.set_peers(peers)

    def _loaded(self) -> IsakmpManager:
        """IKEv1's manager, from now on."""
        if self.ikev1 is None:
            from ipsec_dp.ike.v1.manager import IsakmpManager

            numbers, held = self.ikev2.gateway.next_child, self.ikev2.holdings.held
            self.ikev1 = IsakmpManager(self.environment, numbers, self._events, self._tries_ikev2, held)
        return self.ikev1

    def _held_by_ikev1(self, pair: ProxyId, peer: Peer, theirs: Identity) -> str | None:
        """Selectors belong to identities, whatever these speak."""
        return None if self.ikev1 is None else self.ikev1.gateway.has_taken(pair, peer, theirs)

    def _of(self, tunnel: str, now: float) -> IkeManager | IsakmpManager:
        """Who has what there is of a tunnel."""
        if tunnel in self._of_ikev1:
            return self._loaded()
        by_ikev1 = tunnel in self._choices and self.ikev1 is not None and bool(self.ikev1.latest(tunnel, now))
        return self._loaded() if by_ikev1 and not self._is_up(self.ikev2, tunnel, now) else self.ikev2

    @staticmethod
    def _is_up(manager: IkeManager | IsakmpManager | None, tunnel: str, now: float) -> bool:
        return manager is not None and any(one.state in _UP for one in manager.latest(tunnel, now))

    def _each_of(self, tunnel: str) -> tuple[IkeManager | IsakmpManager, ...]:
        """Everybody who may have something of a tunnel."""
        if tunnel in self._of_ikev1:
            return (self._loaded(),)
        return self._both if tunnel in self._choices else (self.ikev2,)

    @property
    def _both(self) -> tuple[IkeManager | IsakmpManager, ...]:
        return (self.ikev2,) if self.ikev1 is None else (self.ikev2, self.ikev1)

    # ---- tunnels

    def set_peers(self, peers: Iterable[Peer]) -> None:
        peers = list(peers)
        self._of_ikev1 = {peer.tunnel for peer in peers if peer.version == _IKEV1}
        self._choices = {peer.tunnel: self._choose(peer) for peer in peers if peer.fallback is not None}
        ikev1, ikev2 = self._apart(peers)
        self.ikev2.set_peers(ikev2)
        if ikev1 or self.ikev1 is not None:
            self._loaded().set_peers(ikev1)

    def set_peer(self, peer: Peer) -> None:
        if peer.tunnel in self._choices:
            self._choices[peer.tunnel].peer = peer
        ikev1, ikev2 = self._apart([peer])
        for one in ikev2:
            self.ikev2.set_peer(one)
        for one in ikev1:
            self._loaded().set_peer(one)

    def _choose(self, peer: Peer) -> VersionChoice:
        return VersionChoice(peer, pinned=self.environment.pins.holds(peer.tunnel))

    def _apart(self, peers: Iterable[Peer]) -> tuple[list[Peer], list[Peer]]:
        """Those that are to speak IKEv1, and those that are to speak IKEv2: there are such as may be met by both."""
        ikev1: list[Peer] = []
        ikev2: list[Peer] = []
        for peer in peers:
            choice = self._choices.get(peer.tunnel)
            fallback = None if choice is None else choice.ikev1_peer
            (ikev1 if peer.version == _IKEV1 else ikev2).append(peer)
            ikev1 += [] if fallback is None else [fallback]
        return ikev1, ikev2

    def reconfigure(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        """One that changes its version is gone for the one manager, and new for the other."""
        peers = list(peers)
        names = effects.keys() | {peer.tunnel for peer in peers}
        only = {tunnel: effect for tunnel, effect in effects.items() if tunnel in self._of_ikev1}
        may = {tunnel: effect for tunnel, effect in effects.items() if tunnel in self._choices and self.ikev1 is not None}
        others = {tunnel: effect for tunnel, effect in effects.items() if tunnel not in only}
        self._of_ikev1 = (self._of_ikev1 - names) | {peer.tunnel for peer in peers if peer.version == _IKEV1}
        self._choose_again(peers, effects)
        ikev1, ikev2 = self._apart(peers)
        actions = self._noted(self.ikev2, self.ikev2.reconfigure(ikev2, others, now), now)
        if ikev1 or only or may:
            actions += self._noted(self._loaded(), self._loaded().reconfigure(ikev1, only | may, now), now)
        return actions

    def _choose_again(self, peers: Iterable[Peer], effects: Mapping[str, Effect]) -> None:
        """What is known of a peer's version stays as long as its IKE SAs do."""
        kept = {tunnel: choice for tunnel, choice in self._choices.items() if effects.get(tunnel) is not Effect.RESTART}
        for tunnel in effects:
            self._choices.pop(tunnel, None)
        for peer in peers:
            if peer.fallback is not None:
                self._choices[peer.tunnel] = kept.get(peer.tunnel) or self._choose(peer)
                self._choices[peer.tunnel].peer = peer

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        return self._all([(one, partial(one.judge_again, tunnel)) for one in self._each_of(tunnel)], now)

    # ---- which version

    def _all(self, steps: Iterable[tuple[IkeManager | IsakmpManager, Callable[[float], list[Action]]]], now: float) -> list[Action]:
        return [action for manager, step in steps for action in self._noted(manager, step(now), now)]

    def _noted(self, manager: IkeManager | IsakmpManager, actions: list[Action], now: float) -> list[Action]:
        """What a manager wants done, and what follows from it for tunnels that may be met by the other one too."""
        if not self._choices:
            return actions
        found: list[Action] = []
        further: list[Action] = []
        for action in actions:
            choice = self._choices.get(action.event.tunnel) if isinstance(action, Report) else None
            if choice is None or not isinstance(action, Report):
                found.append(action)
            elif manager is self.ikev2:
                event, more = self._of_ikev2(choice, action.event, now)
                found.append(Report(event))
                further += more
            else:
                found.append(action)
                further += self._of_other(choice, action.event, now)
        return found + further

    def _of_ikev2(self, choice: VersionChoice, event: Event, now: float) -> tuple[Event, list[Action]]:
        tunnel = event.tunnel
        if event.kind in _PROVEN:
            choice.authenticated(2, called=event.origin is Origin.OURS)
            self.environment.pins.keep(tunnel)
            return event, [] if self.ikev1 is None else self.ikev1.reconfigure((), {tunnel: Effect.RESTART}, now)
        if event.kind is not Kind.IKE_FAILED or event.origin is not Origin.OURS:
            return event, []
        actions: list[Action] = []
        if self.ikev1 is not None and self._is_up(self.ikev1, tunnel, now):
            actions = self.ikev1.rekey(tunnel, now, ike=True) if choice.main_mode_waits else []
            event = replace(event, kind=Kind.NOTE, text=f"IKEv1 goes on, since IKEv2 was tried in vain: {event.text}")
        elif not choice.renewing and choice.failed(event) and choice.last is not None:
            actions = self._call(choice, choice.last, now)
            event = replace(event, kind=Kind.WARNING, text=f"IKEv1 is tried now, since IKEv2 came to nothing again: {event.text}")
        choice.renewing = choice.main_mode_waits = False
        return event, actions

    def _call(self, choice: VersionChoice, call: Call, now: float) -> list[Action]:
        """Nothing is up or under way: a call begins, by the version whose turn it is."""
        manager = self._loaded() if choice.call(call, now) == _IKEV1 else self.ikev2
        return self._noted(manager, manager.initiate(choice.peer.tunnel, call.path, now, call.packet), now)

    def _of_other(self, choice: VersionChoice, event: Event, now: float) -> list[Action]:
        ours = event.origin is Origin.OURS
        if event.kind in (Kind.IKE_UP, Kind.IKE_REKEYED):
            choice.authenticated(1, called=ours)
            if self._is_up(self.ikev2, event.tunnel, now):  # unpinned since: the peer has shown by which it is met now
                return self.ikev2.reconfigure((choice.peer,), {event.tunnel: Effect.RESTART}, now)
        elif event.kind is Kind.IKE_FAILED and ours and not self._is_up(self.ikev1, event.tunnel, now):
            choice.failed(event)
        there = () if self.ikev1 is None or ours else self.ikev1.latest(event.tunnel, now)
        return self._try_ikev2(choice, there[-1].path, now) if event.kind is Kind.IKE_REKEYED and there else []

    def _try_ikev2(self, choice: VersionChoice, path: Path, now: float) -> list[Action]:
        """In the place of what is up by IKEv1, unless that is under way."""
        if choice.renewing or self.ikev2.latest(choice.peer.tunnel, now):
            return []
        choice.renewing = True
        return self.ikev2.initiate(choice.peer.tunnel, path, now)

    def _tries_ikev2(self, tunnel: str, path: Path, seconds: float, now: float) -> bool:
        """Phase 1 of IKEv1 is due to be renewed: whether that waits for what comes of IKEv2."""
        choice = self._choices.get(tunnel)
        if choice is None or self.ikev1 is None:
            return False
        self.ikev1.gateway.emit(*self._try_ikev2(choice, path, now))
        choice.main_mode_waits = seconds > PATIENCE and bool(self.ikev2.latest(tunnel, now))
        return choice.main_mode_waits

    def fallback(self, tunnel: str, now: float) -> str | None:
        choice = self._choices.get(tunnel)
        return choice.reason if choice is not None and self._is_up(self.ikev1, tunnel, now) else None

    def pinned(self, tunnel: str) -> bool | None:
        choice = self._choices.get(tunnel)
        return None if choice is None else choice.pinned

    def unpin(self, tunnel: str) -> None:
        choice = self._choices.get(tunnel)
        if choice is None:
            raise IpsecDpError(f'tunnel "{tunnel}" has no version = "2-preferred": it speaks one version, whatever its peer does')
        self.environment.pins.clear(tunnel)
        self._choices[tunnel] = self._choose(choice.peer)
        self.set_peer(choice.peer)

    # ---- datagrams and time

    def _reader(self, datagram: bytes) -> IkeManager | IsakmpManager:
        """Whose version the header names; an answer by IKEv1 to a message of IKEv2 is for who sent that."""
        if self.ikev1 is None or self.ikev1.idle or len(datagram) <= _VERSION or datagram[_VERSION] >> 4 != _IKEV1:
            return self.ikev2
        return self.ikev2 if self.ikev2.knows(datagram) and not self.ikev1.knows(datagram) else self.ikev1

    def knows(self, datagram: bytes) -> bool:
        return self._reader(datagram).knows(datagram)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        reader = self._reader(datagram)
        other = self._by_other_version(datagram, path) if other_version.begins(datagram) else None
        if other is not None:
            self.ikev2.gateway.count("ikev1" if other.kind is Kind.IKEV1 else "no_peer")
            return self._events.allowed([Report(other)], now)
        return self._noted(reader, reader.receive(datagram, path, now), now)

    def _by_other_version(self, datagram: bytes, path: Path) -> Event | None:
        """A first message from the very address of a peer that is to speak the other version; None: it is none."""
        version = datagram[_VERSION] >> 4 if len(datagram) > _VERSION else 0
        speakers = {1: self.ikev1, 2: self.ikev2}
        if version not in speakers or any(one.knows(datagram) for one in self._both):
            return None
        speaker, other = speakers[version], speakers[3 - version]
        theirs = None if other is None else other.candidates(path)
        expected = speaker is not None and speaker.candidates(path) is not None
        if expected or theirs is None or path.remote.address not in theirs.first.remotes:
            return None
        tunnel = theirs.first.tunnel
        return other_version.called(tunnel, version, datagram, path.remote, pinned=self.pinned(tunnel) is True)

    def next_timeout(self) -> float | None:
        times = [at for one in self._both if (at := one.next_timeout()) is not None]
        return min(times, default=None)

    def timer(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for one in self._both:
            due = one.next_timeout()
            if due is not None and due <= now:
                actions += self._noted(one, one.timer(now), now)
        return actions

    # ---- commands

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        manager, choice = self._of(tunnel, now), self._choices.get(tunnel)
        if choice is not None and manager is self.ikev2 and not self.ikev2.latest(tunnel, now):
            return self._call(choice, Call(path, packet), now)
        return self._noted(manager, manager.initiate(tunnel, path, now, packet), now)

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        manager = self._of(tunnel, now)
        actions = manager.acquire(tunnel, packet, now)
        return None if actions is None else self._noted(manager, actions, now)

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        manager = self._of(tunnel, now)
        return self._noted(manager, manager.rekey(tunnel, now, ike=ike), now)

    def reauthenticate(self, tunnel: str, now: float) -> list[Action]:
        manager = self._of(tunnel, now)
        return self._noted(manager, manager.reauthenticate(tunnel, now), now)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        return self._all([(one, partial(one.terminate, tunnel)) for one in self._each_of(tunnel)], now)

    def leave(self, tunnel: str, now: float) -> list[Action]:
        return self._all([(one, partial(one.leave, tunnel)) for one in self._each_of(tunnel)], now)

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._all([(one, partial(one.delete_child, tunnel, child)) for one in self._each_of(tunnel)], now)

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        if self.environment.interference.ignores(hard=False):
            return []
        return self._all([(one, partial(one.soft_limit, tunnel, child)) for one in self._each_of(tunnel)], now)

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        if self.environment.interference.ignores(hard=True):
            return []
        return self._all([(one, partial(one.hard_limit, tunnel, child)) for one in self._each_of(tunnel)], now)

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        return self._all([(one, partial(one.peer_moved, tunnel, child, remote)) for one in self._each_of(tunnel)], now)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        """What is quoted of a message may end before its version."""
        return self._all([(one, partial(one.unreachable, message, path, reason)) for one in self._both], now)

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        return self._all([(one, partial(one.unsent, datagram, why)) for one in self._both], now)

    def probe(self, tunnel: str, octets: int, first_wait: float, now: float) -> list[Action] | None:
        """IKEv1 has no message that is padded and answered."""
        return self.ikev2.probe(tunnel, octets, first_wait, now) if self._of(tunnel, now) is self.ikev2 else None

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        return self._all([(one, partial(one.check_liveness, tunnel)) for one in self._each_of(tunnel)], now)

    def close(self, now: float) -> list[Action]:
        return self._all([(one, one.close) for one in self._both], now)

    def forget(self, now: float) -> list[Action]:
        return self._all([(one, one.forget) for one in self._both], now)

    def unfinished(self) -> bool:
        return any(one.unfinished() for one in self._both)

    # ---- what is carried away, and taken over (`ike.carried`)

    @property
    def choices(self) -> Mapping[str, VersionChoice]:
        """Of the tunnels that may fall to IKEv1."""
        return self._choices

    def with_ikev1(self) -> IsakmpManager:
        """IKEv1's manager, which something is carried to."""
        return self._loaded()

    # ---- what is there

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return tuple(status for one in reversed(self._each_of(tunnel)) for status in one.status(tunnel, now))

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        first, *others = self._each_of(tunnel)
        latest = first.latest(tunnel, now)
        return (*others[0].latest(tunnel, now), *latest) if others else latest

    def has_ike_sa(self, tunnel: str) -> bool:
        return any(one.has_ike_sa(tunnel) for one in self._each_of(tunnel))

    def rekey_in(self, child: int, now: float) -> float | None:
        seconds = self.ikev2.rekey_in(child, now)
        return seconds if seconds is not None or self.ikev1 is None else self.ikev1.rekey_in(child, now)

    def post_quantum(self, child: int) -> PostQuantum:
        return self.ikev2.post_quantum(child)  # IKEv1 has nothing for it

    def retransmissions(self, tunnel: str) -> int:
        return sum(one.retransmissions(tunnel) for one in self._each_of(tunnel))

    def counters(self) -> Counters:
        counted, ikev1 = self.ikev2.counters(), self.ikev1
        if ikev1 is None:
            return counted
        sums = {name: getattr(counted, name) + ikev1.gateway.counts[name] for name in Counters.__dataclass_fields__}
        sums["half_open"] += ikev1.half_open
        sums["sessions"] += ikev1.held
        return Counters(**sums)
