"""What ISAKMP SAs ask of the gateway around them: what else there is, what may be spent on strangers, another call of the peer.

What is with a peer begins here, when one is up.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ipsec_dp.ike.authenticated import Accounts
from ipsec_dp.ike.peer import Unique
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.v1 import aggressive_mode, main_mode, peerings
from ipsec_dp.ike.v1.context import IsakmpContext, Peering
from ipsec_dp.ike.v1.sa import IsakmpSa, fresh_cookie
from ipsec_dp.ike.v1.session_index import BEGUN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.actions import Action, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.admission import IsakmpAdmission
    from ipsec_dp.ike.v1.expected_peers import ExpectedPeers
    from ipsec_dp.ike.v1.isakmp_sas import IsakmpSas
    from ipsec_dp.ipsec.addresses import Address


class IsakmpGateway:
    """`context.IsakmpHost`, by what the gateway holds. For `numbers`, `tries_first` and `held_beside` see `manager`."""

    def __init__(
        self,
        environment: Environment,
        peers: ExpectedPeers,
        sas: IsakmpSas,
        admission: IsakmpAdmission,
        events: StrangersEvents,
        numbers: Callable[[], int],
        tries_first: Callable[[str, Path, float, float], bool],
        held_beside: Callable[[ProxyId, Peer, Identity], str | None],
    ) -> None:
        self.environment = environment
        self.next_child = numbers
        self.counts: Counter[str] = Counter()
        self.retransmissions: Counter[str] = Counter()  # by tunnel
        self._peers, self._sas, self._admission, self._events = peers, sas, admission, events
        self._tries_first, self._held_beside = tries_first, held_beside
        self._accounts = Accounts()
        self._actions: list[Action] = []

    # ---- what comes of it

    def emit(self, *actions: Action) -> None:
        self._actions += actions

    def take(self, now: float) -> list[Action]:
        """All that is to be carried out since it was asked last, without the events that strangers cause too many of."""
        actions, self._actions = self._actions, []
        return self._events.allowed(actions, now)

    def count(self, counter: str) -> None:
        self.counts[counter] += 1

    def retransmitted(self, tunnel: str) -> None:
        self.retransmissions[tunnel] += 1
        self.count("retransmissions")

    # ---- strangers

    def may_hold(self, context: IsakmpContext, address: Address, octets: int) -> bool:
        return self._admission.fragments.hold(context, address, octets)

    def holds_nothing(self, context: IsakmpContext) -> None:
        self._admission.fragments.discard(context)

    def may_refuse(self, now: float) -> bool:
        return self._admission.refusals.take(now)

    def may_begin(self, address: Address, now: float) -> bool:
        return self._admission.key_exchanges.take(address, now)

    # ---- what else there is

    def holds(self, number: int, peering: Peering) -> None:
        self._sas.peerings.holds(number, peering)

    def lacks(self, context: IsakmpContext) -> bool:
        newest = self._sas.peerings.newest_of_tunnel(context.peer.tunnel)
        peering = next((one for one in newest if not one.over), None)
        return self._peers.get(context.peer.tunnel) is not None and (peering is None or peering.current is None)

    def expected(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        return tuple(peer for one in peers if (peer := self._peers.get(one.tunnel)) is not None)

    def first_contact(self, context: IsakmpContext) -> bool:
        return not self.environment.on_trial and not self._sas.peerings.any_at(context.path.remote.address)

    def taken_by(self, peering: Peering, pair: ProxyId) -> str | None:
        identities = None if peering.current is None else peering.current.proven.identities
        if peering.peer.remotes or identities is None:
            return None
        theirs = identities[1]
        return self.has_taken(pair, peering.peer, theirs) or self._held_beside(pair, peering.peer, theirs)

    def has_taken(self, pair: ProxyId, _peer: Peer, theirs: Identity) -> str | None:
        """Who has a part of `pair` by IKEv1, and is somebody else."""
        return self._sas.peerings.taken_by(theirs, pair)

    # ---- calls

    def call(self, peering: Peering, now: float) -> None:
        tunnel, last = peering.peer.tunnel, peering.current or peering.last
        if last is None or peering.calling or self._peers.get(tunnel) is None:
            return
        if self._tries_first(tunnel, last.path, min(last.deadlines.hard, peering.wait_until) - now, now):
            return
        peering.calling = True
        self.begin(self._peers[tunnel], last.path, now, ())

    def begin(self, peer: Peer, path: Path, now: float, asked: tuple[ProxyId | None, ...]) -> None:
        """A main or aggressive mode of ours. `asked`: what is wanted when it is up, None: everything."""
        mode = aggressive_mode if peer.mode == "aggressive" else main_mode
        sa = IsakmpSa(initiator=True, cookie_i=fresh_cookie(self.environment.rng), exchange=mode.EXCHANGE)
        session = IsakmpContext(self, Candidates((peer,)), sa, path, now)
        session.negotiation.asked = asked
        self._sas.sessions.add(session)
        self._sas.sessions.add_call(session)
        mode.begin(session, now)
        self._sas.settle_session(session, now)

    # ---- one is up

    def came_up(self, context: IsakmpContext, now: float) -> None:
        self._admission.discard(context)
        self._sas.sessions.discard_call(context)
        key = key_of(context)
        peering = self._sas.peerings.of_key(key)
        if peering is not None:
            self._sas.catch_up(peering, now)
        if peering is None or peering.over:
            peering = Peering(self, context.peer, key)
            self._sas.peerings.add(peering)
            if not context.sa.initiator:
                peering.wanted.leave_to_peer(now, self.environment.rng)
        peering.configure(context.peer)
        self.open_account(peering)
        peerings.joined(peering, context, now)
        self._in_vain(context)
        if context.negotiation.initial_contact and not context.sa.initiator:
            peerings.began_anew(context, now)
        for asked in context.negotiation.asked:
            if asked is None:
                peering.wanted.ask_for_all()
            else:
                peering.wanted.ask_for(asked)
        self._sas.settle(peering, now)

    def open_account(self, peering: Peering) -> None:
        """Of what the peer may cost."""
        peering.account = self._accounts.of(peering.key, len(peering.peer.proxy_ids))

    def _in_vain(self, context: IsakmpContext) -> None:
        """Of our calls those that nobody has answered, by which the very peer has called us: what they were for is wanted here."""
        if context.sa.initiator or context.peer.unique is Unique.NEVER:
            return
        for call in self._sas.sessions.calls(context.peer.tunnel):
            if call.state in BEGUN:
                context.negotiation.asked += call.negotiation.asked
                call.close()
                self._sas.drop(call)


def key_of(context: IsakmpContext) -> object:
    """By which what is with its peer is found: tunnel, identities, and its address where several may have those."""
    identities = context.proven.identities or ()
    where = context.path.remote if context.peer.unique is Unique.NEVER else None
    return context.peer.tunnel, tuple(one.meaning() for one in identities), where
