"""The calls of `interface.IkeCore` for the tunnels that are to speak IKEv1; `core` puts it beside IKEv2's.

Here are the tunnels, the commands about them, and what is told of them. Whose a datagram is stands in `datagrams`, what becomes of
an ISAKMP SA after it has acted in `isakmp_sas`, what it asks of those around it in `gateway`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.traffic_selectors import asked_by
from ipsec_dp.ike.v1 import informational, ipsec_sas, peerings, report, upkeep
from ipsec_dp.ike.v1.admission import IsakmpAdmission
from ipsec_dp.ike.v1.datagrams import IsakmpDatagrams
from ipsec_dp.ike.v1.expected_peers import ExpectedPeers
from ipsec_dp.ike.v1.gateway import IsakmpGateway, key_of
from ipsec_dp.ike.v1.isakmp_sas import IsakmpSas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ipsec_dp.ike.actions import Action, Endpoint, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.interface import IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.isakmp_sas import Step
    from ipsec_dp.ike.v1.sa import IpsecSa
    from ipsec_dp.ipsec.selectors import SelectorPair

LATEST: Final = 32  # ISAKMP SAs of a tunnel by which its state is judged


class IsakmpManager:
    """See `interface.IkeCore` for its calls. `numbers`: of IPsec SAs, which no version gives twice.

    `tries_first`: an ISAKMP SA of a tunnel is to be renewed, on this path and within so many seconds; whether something else is
    tried before that, so that nothing is begun here. `held_beside`: the same as `has_taken`, by IKEv2.
    """

    def __init__(
        self,
        environment: Environment,
        numbers: Callable[[], int],
        events: StrangersEvents,
        tries_first: Callable[[str, Path, float, float], bool] = lambda *_: False,
        held_beside: Callable[[ProxyId, Peer, Identity], str | None] = lambda *_: None,
    ) -> None:
        self._peers = ExpectedPeers(environment.watcher)
        self._admission = IsakmpAdmission()
        self._sas = IsakmpSas(environment, self._admission)
        self.gateway = IsakmpGateway(
            environment, self._peers, self._sas, self._admission, events, numbers, tries_first, held_beside
        )
        self._datagrams = IsakmpDatagrams(self.gateway, self._peers, self._sas, self._admission, events)

    # ---- tunnels

    @property
    def idle(self) -> bool:
        """True when no tunnel is to speak IKEv1 and nothing is held."""
        return not self._peers and not self._sas

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
            self.gateway.retransmissions.pop(tunnel, None)
        steps: list[tuple[IsakmpContext | Peering, Step]] = []
        for tunnel, effect in effects.items():
            steps += self._to_reconfigure(tunnel, effect)
        return self._each(steps, now)

    def _to_reconfigure(self, tunnel: str, effect: Effect) -> Iterator[tuple[IsakmpContext | Peering, Step]]:
        peer = self._peers.get(tunnel)
        if peer is None or effect is Effect.RESTART:
            for context in self._sas.sessions.take_calls(tunnel):
                context.close()
                self._sas.drop(context)
        else:
            for context in self._sas.sessions.calls(tunnel):  # what it comes up with is what is written now
                context.peer = peer
        for peering in self._sas.peerings.of_tunnel(tunnel):
            if peer is None or effect is Effect.RESTART:
                peering.withdrawn = True  # at once: a new one may begin before its turn has come
                yield peering, partial(peerings.withdraw, peering)
            else:
                yield peering, partial(upkeep.fit, peering, peer, effect)

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        peer = self._peers.get(tunnel)
        return [] if peer is None else self.reconfigure((peer,), {tunnel: Effect.RECHECK}, now)

    def candidates(self, path: Path) -> Candidates | None:
        """Whom somebody there may be; None: nobody is expected."""
        return self._peers.candidates(path)

    def _each(self, steps: Iterable[tuple[IsakmpContext | Peering, Step]], now: float) -> list[Action]:
        self._sas.each(steps, now)
        return self._take(now)

    def _take(self, now: float) -> list[Action]:
        return self.gateway.take(now)

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
        self._sas.timer(now)
        return self._take(now)

    def unfinished(self) -> bool:
        return self._sas.unfinished()

    # ---- commands

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        peer = self._peers[tunnel]
        asked = None if packet is None else asked_by(packet, peer.proxy_ids)
        if not self._want(tunnel, asked, now):
            self.gateway.begin(peer, path, now, (asked,))
        return self._take(now)

    def _want(self, tunnel: str, asked: ProxyId | None, now: float) -> bool:
        """Ask for it where something is up or under way; false where nothing is."""
        peering = self._sas.current(tunnel, now)
        if peering is not None:
            if asked is None:
                peering.wanted.ask_for_all()
            elif not any(pairs[0].covers(asked) for pairs in peering.up.values()):
                peering.wanted.ask_for(asked)
            self._sas.settle(peering, now)
            return True
        call = next(iter(self._sas.sessions.calls(tunnel)), None)
        if call is not None and asked not in call.negotiation.asked:
            call.negotiation.asked = (*call.negotiation.asked, asked)[-LIMITS.hints :]
        return call is not None

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        peer = self._peers.get(tunnel)
        if peer is None or not self._want(tunnel, asked_by(packet, peer.proxy_ids), now):
            return None
        return self._take(now)

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        peering = self._sas.current(tunnel, now)
        if peering is not None and ike:
            self.gateway.call(peering, now)
        elif peering is not None:
            for sa in peering.sas.values():
                upkeep.renew(sa, now)
        if peering is not None:
            self._sas.settle(peering, now)
        return self._take(now)

    def reauthenticate(self, tunnel: str, now: float) -> list[Action]:
        return self.rekey(tunnel, now, ike=True)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        return self._end(tunnel, "terminated here", now)

    def leave(self, tunnel: str, now: float) -> list[Action]:
        return self._end(tunnel, "closed here", now)

    def _end(self, tunnel: str, text: str, now: float) -> list[Action]:
        return self._each(self._to_end(tunnel, text), now)

    def _to_end(self, tunnel: str, text: str) -> Iterator[tuple[IsakmpContext | Peering, Step]]:
        for call in self._sas.sessions.calls(tunnel):
            yield call, partial(_give_up, call, text)
        for peering in self._sas.peerings.of_tunnel(tunnel):
            yield peering, partial(_end_all, peering, Cause.LOCAL, text)

    def close(self, now: float) -> list[Action]:
        tunnels = dict.fromkeys((*self._sas.peerings.tunnels, *self._sas.sessions.called))
        return self._each((step for tunnel in tunnels for step in self._to_end(tunnel, "closed here")), now)

    def forget(self, now: float) -> list[Action]:
        text = "this virtual machine was cloned or restored, and its keys are another's too"
        steps: list[tuple[IsakmpContext | Peering, Step]] = [(one, partial(_forget_all, one, text)) for one in self._sas.peerings]
        alone = self._sas.sessions.alone()
        return self._each([*steps, *((session, partial(_close, session)) for session in alone)], now)

    def _step(self, tunnel: str, child: int, now: float, step: Callable[[Peering, IpsecSa], None]) -> list[Action]:
        peering = self._sas.peerings.of_child(child)
        self._sas.catch_up(peering, now)
        if peering is not None and peering.peer.tunnel == tunnel and child in peering.sas:
            step(peering, peering.sas[child])
            self._sas.settle(peering, now)
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

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        return self._each([(one, partial(_check, one)) for one in self._sas.peerings.of_tunnel(tunnel)], now)

    # ---- what is there

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return tuple(report.status(one, now) for one in self._in_use(tunnel))

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return tuple(report.status(one, now, listed=False) for one in reversed(self._latest(tunnel)))

    def has_ike_sa(self, tunnel: str) -> bool:
        return bool(self._latest(tunnel))  # none of them is told to be closing

    def _latest(self, tunnel: str) -> list[IsakmpContext]:
        """The newest first."""
        up = (one for peering in self._sas.peerings.newest_of_tunnel(tunnel) for one in reversed(peering.sessions) if one.in_use)
        return list(islice(up, LATEST)) or [one for one in self._sas.sessions.calls(tunnel) if one.in_use]

    def _in_use(self, tunnel: str) -> list[IsakmpContext]:
        up = [one for peering in self._sas.peerings.of_tunnel(tunnel) for one in peering.sessions]
        return [one for one in (*self._sas.sessions.calls(tunnel), *up) if one.in_use and (one.established or not up)]

    def rekey_in(self, child: int, now: float) -> float | None:
        holder = self._sas.peerings.of_child(child)
        return None if holder is None else report.rekey_in(holder, child, now)

    def retransmissions(self, tunnel: str) -> int:
        return self.gateway.retransmissions[tunnel]

    def sessions(self, tunnel: str) -> tuple[IsakmpContext, ...]:
        """The ISAKMP SAs of a tunnel, oldest first: those too that are replaced."""
        return tuple(one for peering in self._sas.peerings.of_tunnel(tunnel) for one in peering.sessions)

    # ---- what is carried away, and taken over (`ike.carried`)

    def carried(self) -> tuple[list[Peering], list[IsakmpContext]]:
        """What is with each peer, and the ISAKMP SAs that are with none yet."""
        return [one for one in self._sas.peerings if not one.over], self._sas.sessions.alone()

    def due(self) -> list[IsakmpContext | Peering]:
        """Whoever has something to do, the first one first."""
        return self._sas.due()

    def peer(self, tunnel: str) -> Peer | None:
        """What a tunnel says now; None: it is not there."""
        return self._peers.get(tunnel)

    def has_cookie(self, own_cookie: bytes) -> bool:
        """Whether an ISAKMP SA here has it."""
        return own_cookie in self._sas.sessions

    def has_number(self, number: int) -> bool:
        """Whether a pair of IPsec SAs here has it."""
        return self._sas.peerings.of_child(number) is not None

    def knows_request(self, session: IsakmpContext) -> bool:
        """Whether a repeat of message 1 finds it."""
        return self._sas.sessions.by_request(session.request_key) is session

    def tallies(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was counted, and how often each tunnel's messages were sent again."""
        return dict(self.gateway.counts), dict(self.gateway.retransmissions)

    def go_on_from(self, tallies: tuple[Mapping[str, int], Mapping[str, int]]) -> None:
        """What another counted is counted on."""
        self.gateway.counts.update(tallies[0])
        self.gateway.retransmissions.update(tallies[1])

    def key_of(self, context: IsakmpContext) -> object:
        """By which what is with its peer is found."""
        return key_of(context)

    def take_over(self, peering: Peering, by_request: Iterable[IsakmpContext]) -> None:
        """What is with one peer was carried here; `await_times` follows for all that came together. `by_request`: those that a
        repeat of message 1 finds."""
        self._sas.take_over(peering, by_request)
        self.gateway.open_account(peering)

    def await_times(self, owner: IsakmpContext | Peering) -> None:
        """It was taken over with all that belongs to it."""
        self._sas.await_times(owner)

    @property
    def half_open(self) -> int:
        return len(self._admission.half_open)

    @property
    def held(self) -> int:
        """ISAKMP SAs, whoever's."""
        return len(self._sas.sessions)


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
