"""A datagram finds the ISAKMP SA whose cookies it bears; a message 1 of somebody unknown begins one, within the limits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import NO_SPI, Kind
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import receiving, silence, words
from ipsec_dp.ike.v1.context import MODES, IsakmpContext
from ipsec_dp.ike.v1.message import parse_isakmp_header
from ipsec_dp.ike.v1.sa import IsakmpSa, ReceivedDatagram
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import ExchangeMode, PayloadKind

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Action, Path
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.ike.v1.admission import IsakmpAdmission
    from ipsec_dp.ike.v1.expected_peers import ExpectedPeers
    from ipsec_dp.ike.v1.gateway import IsakmpGateway
    from ipsec_dp.ike.v1.isakmp_sas import IsakmpSas


class IsakmpDatagrams:
    """For the calls of `interface.IkeCore` that are given one, the peer's or ours."""

    def __init__(
        self, gateway: IsakmpGateway, peers: ExpectedPeers, sas: IsakmpSas, admission: IsakmpAdmission, events: StrangersEvents
    ) -> None:
        self._gateway, self._peers, self._sas, self._admission, self._events = gateway, peers, sas, admission, events

    def knows(self, datagram: bytes) -> bool:
        session = self._sas.sessions.of_datagram(datagram)
        return session is not None and (session.sa.initiator or session.established)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        try:
            header, first = parse_isakmp_header(datagram)
        except IkeSyntaxError:
            self._gateway.count("malformed")
            return []
        self._gateway.environment.trace.described(datagram, partial(words.outside, header, len(datagram)), proven=False)
        received = ReceivedDatagram(header, first, datagram, path, now)
        session = self._sas.of_header(header, now)
        if session is None and header.cookie_r == NO_SPI and header.exchange in MODES and not header.encrypted:
            return self._receive_first(received)
        if session is None:
            self._gateway.count("unknown_spi")
            return []
        returned = session.state is IsakmpState.SA_ANSWERED
        receiving.receive(session, received)
        if returned and session.state is IsakmpState.KE_ANSWERED and path.remote.address in session.peer.remotes:
            self._admission.half_open.discard(session)
            self._push_out(self._admission.half_open.add(session, path.remote.address, reserved=True))
        return self._done(session, now)

    def _receive_first(self, received: ReceivedDatagram) -> list[Action]:
        """Somebody begins. State is made for a proposal that a tunnel admits, from where a peer may come, within the limits."""
        header, path, now = received.header, received.path, received.now
        a_part = received.first == PayloadKind.FRAGMENT  # what it would be kept for is not there before somebody shows our cookie
        if a_part or len(received.datagram) > LIMITS.init_octets or header.cookie_i in self._sas.sessions:
            self._gateway.count("malformed")
            return []
        known = self._sas.sessions.by_request((header.cookie_i, path.remote))
        self._sas.catch_up(known, now)
        if known is not None and known.alive:
            receiving.receive(known, received)
            return self._done(known, now)
        candidates = self._peers.candidates(path)
        if candidates is None:
            self._gateway.count("no_peer")
            text = f"{path.remote} begins IKEv1 with {path.local.address}, and no tunnel expects anybody from there"
            return self._events.report(Kind.WARNING, text, now)
        sa = IsakmpSa(initiator=False, cookie_i=header.cookie_i, exchange=ExchangeMode(header.exchange))
        session = IsakmpContext(self._gateway, candidates, sa, path, now)
        receiving.receive(session, received)
        if session.state in (IsakmpState.SA_ANSWERED, IsakmpState.AGGRESSIVE_ANSWERED):
            self._sas.sessions.add(session)
            self._sas.sessions.add_requests([session])
            self._push_out(self._admission.half_open.add(session, path.remote.address))
        return self._done(session, now)

    def _push_out(self, session: IsakmpContext | None) -> None:
        """Others came after it."""
        if session is not None:
            self._gateway.count("refused")
            session.close()
            self._sas.drop(session)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        session = self._sas.sessions.of_datagram(message)
        if session is None or session.waiting is None or path.remote[:2] != session.path.remote[:2]:
            return []
        end, session.negotiation.unreachable = path.remote, session.path.natt
        session.hint(f"an ICMP message says that UDP port {end.port} of {end.address} is not reached: {reason}")
        return self._done(session, now)

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        """Of main mode it is told as early as IKEv2's."""
        session = self._sas.sessions.of_datagram(datagram)
        if session is None:
            return []
        silence.unsent(session, datagram, why)
        return self._done(session, now)

    def _done(self, session: IsakmpContext, now: float) -> list[Action]:
        self._sas.settle_session(session, now)
        return self._gateway.take(now)
