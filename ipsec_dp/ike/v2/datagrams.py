"""A datagram finds the IKE SA whose SPIs it bears; a first request of somebody unknown begins one, within the limits (`admission`);
others may get an answer that costs nothing (`unsolicited`)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import NO_SPI, Cause, Kind, Report, Send
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import first_message
from ipsec_dp.ike.v2.errors import Ikev1MessageError, InvalidMajorVersionError, UnsupportedCriticalPayloadError, notify_of
from ipsec_dp.ike.v2.message import begins, parse_message, receivers_spi
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.sa import HALF_OPEN, State
from ipsec_dp.ike.v2.session import responder
from ipsec_dp.ike.v2.unsolicited import UnsolicitedAnswers
from ipsec_dp.ike.v2.wire import IKE_SPI, ExchangeType, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Action, Path
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.ike.v2.admission import Admission
    from ipsec_dp.ike.v2.gateway import IkeGateway
    from ipsec_dp.ike.v2.ike_sas import IkeSas
    from ipsec_dp.ike.v2.message import Header, Message
    from ipsec_dp.ike.v2.session import IkeSession


class IkeDatagrams:
    """For the calls of `interface.IkeCore` that are given one, the peer's or ours."""

    def __init__(self, gateway: IkeGateway, sas: IkeSas, admission: Admission[IkeSession], events: StrangersEvents) -> None:
        self._gateway, self._sas, self._admission, self._events = gateway, sas, admission, events
        self._unsolicited = UnsolicitedAnswers()

    def knows(self, datagram: bytes) -> bool:
        session = self._sas.sessions.get(receivers_spi(datagram))
        return session is not None and (session.sa.initiator or session.authenticated)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        try:
            message = parse_message(datagram)
        except Ikev1MessageError as error:
            self._gateway.count("ikev1")
            about = self._unusable(datagram, error, path, now, Kind.IKEV1)
            text = f"{path.remote} offers IKEv1, which is not spoken here"
            return self._events.report(Kind.IKEV1, text, now, LIMITS.ikev1_event_seconds) if about is None else about
        except (InvalidMajorVersionError, UnsupportedCriticalPayloadError) as error:
            self._gateway.count("malformed")
            about = self._unusable(datagram, error, path, now) or []
            due = isinstance(error, InvalidMajorVersionError) or begins(datagram)
            return about + (self._answer(notify_of(error), datagram, path, now) if due else [])
        except IkeSyntaxError as error:
            self._gateway.count("malformed")
            return self._unusable(datagram, error, path, now) or []
        header = message.header
        spi = header.spi_r if header.from_initiator else header.spi_i
        session = self._sas.sessions.get(spi)
        if session is None and header.exchange == ExchangeType.IKE_SA_INIT and not header.is_response:
            return self._receive_init(datagram, message, path, now)
        if session is None or not _fits(session, header):
            self._gateway.count("unknown_spi")
            known = (
                header.spi_i in self._sas.sessions or header.spi_r in self._sas.sessions
            )  # one of our own messages, come back, or half of one
            return [] if known else self._answer(Notify(NotifyType.INVALID_IKE_SPI), datagram, path, now)
        return self._sas.run(session, now, lambda: session.receive(datagram, message, path, now))

    def _unusable(
        self, datagram: bytes, error: IkeSyntaxError, path: Path, now: float, kind: Kind = Kind.IKE_FAILED
    ) -> list[Action] | None:
        """A datagram that is no message of IKEv2. It may be for a request of ours, or a peer's first one; None: of nobody's."""
        session = self._sas.sessions.get(receivers_spi(datagram))
        if session is not None:
            session.handshake.spoken |= not isinstance(error, Ikev1MessageError)
            return self._sas.run(session, now, partial(session.unusable, f"a message that cannot be read: {error}", path))
        event = first_message.unreadable(self._gateway.peers.candidates(path), datagram, error, path, kind)
        return None if event is None else self._events.allowed([Report(event)], now)

    def _answer(self, notify: Notify | None, datagram: bytes, path: Path, now: float) -> list[Action]:
        reply = None if notify is None else self._unsolicited.answer(notify, datagram, now)
        return [] if reply is None else [Send(reply, path)]

    def _receive_init(self, datagram: bytes, message: Message, path: Path, now: float) -> list[Action]:
        """Somebody begins. State is made only for a whole request, from where a peer may come, within the limits."""
        header = message.header
        if header.spi_r != NO_SPI or header.message_id != 0 or not header.from_initiator or header.spi_i in self._sas.sessions:
            self._gateway.count("malformed")
            return []
        known = self._sas.sessions.by_request((header.spi_i, path.remote))
        if known is not None:
            return self._sas.run(known, now, lambda: known.receive(datagram, message, path, now))
        candidates = self._gateway.peers.candidates(path)
        if candidates is None:
            self._gateway.count("no_peer")
            text = f"{path.remote} begins IKE with {path.local.address}, and no tunnel expects anybody from there"
            return self._events.report(Kind.WARNING, text, now)
        demand = self._admission.demand(message, path, now)
        if demand is not None:
            self._gateway.count("cookies_sent")
            return [demand]
        session = responder(self._gateway, candidates, header.spi_i, path, now)
        actions = session.receive(datagram, message, path, now)
        if session.state in HALF_OPEN:
            configured = path.remote.address in candidates.first.remotes and self._admission.returned(message, path, now)
            return actions + self._hold(session, configured=configured, now=now)
        return self._events.allowed(actions, now)

    def _hold(self, session: IkeSession, *, configured: bool, now: float) -> list[Action]:
        """A session for a stranger. `configured`: a tunnel names his address, and a cookie came back from there."""
        remote = session.path.remote
        self._sas.hold_stranger(session)
        pushed_out = self._admission.half_open.add(session, remote.address, reserved=configured)
        if pushed_out is None:
            return []
        self._gateway.count("refused")
        return self._sas.run(pushed_out, now, partial(_push_out, pushed_out, now))

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        session = self._sender(message)
        if session is None or (path.remote.address, path.remote.port) != (session.path.remote.address, session.path.remote.port):
            return []
        session.handshake.unreachable = session.path.natt
        text = f"an ICMP message says that UDP port {path.remote.port} of {path.remote.address} is not reached: {reason}"
        return self._sas.run(session, now, partial(session.unusable, text, session.path))

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        session = self._sender(datagram)
        return [] if session is None else self._sas.run(session, now, partial(session.unsent, datagram, why))

    def _sender(self, message: bytes) -> IkeSession | None:
        """Whose a message of ours is."""
        return self._sas.sessions.get(message[:IKE_SPI]) or self._sas.sessions.get(message[IKE_SPI : 2 * IKE_SPI])


def _fits(session: IkeSession, header: Header) -> bool:
    """Both SPIs are those of the session; its responder's is not known before the first response."""
    spis = (session.sa.spi_i, session.sa.spi_r)
    return header.spi_i == spis[0] and (header.spi_r == spis[1] or session.state is State.INIT_SENT)


def _push_out(session: IkeSession, now: float) -> list[Action]:
    session.end(Cause.RESOURCES, "others came after it", now, quiet=True)
    return session.take()
