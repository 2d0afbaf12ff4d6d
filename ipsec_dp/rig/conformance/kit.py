"""What a case has to work with: odd peers with a gateway under test, controls, and the words of a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.rig.odd_parts import Agreed, Change, Heard, Patch, as_built, unchanged
from ipsec_dp.rig.odd_peer import OddPeer
from ipsec_dp.rig.odd_wire import OddWire, UdpPayload

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.rig.odd_speaker import OddSpeaker

ALIVE_S: Final = 2.0  # for an answer to a control
FAREWELL_S: Final = (0.2, 0.3)  # for one to the last DELETE, which is sent twice


class CaseFailedError(Exception):
    """The gateway did otherwise than the section says; the text is what it did."""


class NotApplicableError(Exception):
    """The case says nothing about this gateway; the text is why."""


class RequirementLevel(StrEnum):
    """How much the standard wants it (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"


SHOULD: Final = RequirementLevel.SHOULD


@dataclass(frozen=True, slots=True)
class ConformanceCase:
    """`what` must happen, by which section, and `unless` what the case does not apply. `run` raises CaseFailedError or
    NotApplicableError; the gateway has passed when it returns."""

    name: str
    section: str  # "RFC 7296 §2.5"
    level: RequirementLevel
    what: str
    run: Callable[..., None]  # with a `Kit`, or a `CallKit` where the gateway calls
    unless: str = ""


class Cases(list[ConformanceCase]):
    """A table of cases in the order of their definition."""

    def add(
        self, section: str, what: str, *, level: RequirementLevel = RequirementLevel.MUST, unless: str = ""
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Decorates the function of a case, whose name the case gets, with hyphens."""

        def added(run: Callable[..., None]) -> Callable[..., None]:
            self.append(ConformanceCase(run.__name__.replace("_", "-"), section, level, what, run, unless))
            return run

        return added


class BoundedWire:
    """A wire that gives up at `deadline`, so that no case takes longer than it may."""

    def __init__(self, wire: OddWire, seconds: float) -> None:
        self._wire, self.seconds = wire, seconds
        self._deadline = float("inf")

    @property
    def path(self) -> Path:
        return self._wire.path

    def begin(self) -> None:
        """A case begins."""
        self._deadline = self.now() + self.seconds

    def end(self) -> None:
        """It has ended."""
        self._deadline = float("inf")

    def now(self) -> float:
        return self._wire.now()

    def pace(self) -> None:
        self._wire.pace()

    def send(self, octets: bytes, *, natt: bool) -> None:
        self._wire.send(octets, natt=natt)

    def receive(self, seconds: float) -> UdpPayload | None:
        left = self._deadline - self.now()
        if left <= 0:
            raise CaseFailedError(f"it came to no end in {self.seconds:g} s")
        return self._wire.receive(min(seconds, left))

    def move(self) -> None:
        self._wire.move()

    def close(self) -> None:
        self._wire.close()


@dataclass(frozen=True, slots=True)
class EchoEnds:
    """Inner addresses for echo requests: ours, and one behind the gateway that answers them."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address


class Kit:
    """Odd peers by one wire, one case after the other. `grace`: seconds after an answered control that a stray answer may take."""

    def __init__(
        self, agreed: Agreed, wire: OddWire, *, echo: EchoEnds | None = None, grace: float = 0.1, case_seconds: float = 20.0
    ) -> None:
        self.agreed, self.echo, self.grace = agreed, echo, grace
        self.wire = BoundedWire(wire, case_seconds)
        self._peers: list[OddPeer] = []

    def fresh(self, agreed: Agreed | None = None) -> OddPeer:
        """A peer that has said nothing yet. What is still under way to an older one is not for it."""
        while self.wire.receive(0) is not None:
            pass
        self._peers.append(OddPeer(agreed or self.agreed, self.wire))
        return self._peers[-1]

    def begun(self, change: Change = unchanged, patch: Patch = as_built, agreed: Agreed | None = None) -> OddPeer:
        """A peer whose IKE_SA_INIT was answered."""
        peer = self.fresh(agreed)
        accepted(peer.init(change, patch))
        demand(peer.sa.outgoing is not None, "its IKE_SA_INIT response cannot be used")
        return peer

    def up(self, change: Change = unchanged) -> OddPeer:
        """A peer with an IKE SA and a CHILD_SA."""
        peer = self.begun()
        came_up(peer, peer.auth(change))
        return peer

    def alive(self, peer: OddPeer) -> None:
        """A control: the gateway answers a right IKE_SA_INIT request; what it sends meanwhile, `peer` hears."""
        other = OddPeer(self.agreed, self.wire)
        request, since = other.init_request(other.init_parts()), len(peer.heard)
        for _ in range(2):
            self.wire.pace()
            peer.send(request, natt=False)
            found = peer.listen(other.answers_init, ALIVE_S, since)
            if found is not None and found.message is not None:
                other.establish(found.message, request, found.octets)
                self._peers.append(other)
                return
        raise CaseFailedError("it does not answer a right IKE_SA_INIT request afterwards")

    def stays_silent(self, peer: OddPeer, stray: Callable[[Heard], bool], since: int, what: str) -> None:
        """After a request on the IKE SA that is answered, nothing like `stray` has come."""
        works(peer)
        demand(peer.listen(stray, self.grace, since) is None, what)

    def stays_silent_to_all(self, peer: OddPeer, stray: Callable[[Heard], bool], since: int, what: str) -> None:
        """The same after an answered IKE_SA_INIT request, where there is no IKE SA to ask on."""
        self.alive(peer)
        demand(peer.listen(stray, self.grace, since) is None, what)

    def control(self) -> bool:
        """Whether an IKE SA with a CHILD_SA comes up as it should, answers a request, and is deleted."""
        peer = self.fresh()
        if peer.init() is None or peer.sa.outgoing is None or peer.auth() is None or not peer.children:
            return False
        answered = peer.ask(ExchangeType.INFORMATIONAL) is not None
        self.close()
        return answered

    def close(self) -> None:
        """Deletes the IKE SAs that cases have left; one without AUTH is completed first, so that none stays half-open."""
        for peer in self._peers:
            if peer.sa.outgoing is not None and not peer.gone:
                if not peer.authentic and peer.sa.next_id == 1:
                    peer.auth()
                if peer.authentic:
                    farewell(peer)
        self._peers.clear()


def farewell(peer: OddSpeaker) -> None:
    """A DELETE of its IKE SA, which the gateway may no longer know."""
    match, since = peer.answers(peer.sa.next_id), len(peer.heard)
    octets = peer.sealed(ExchangeType.INFORMATIONAL, [p.Delete(ProtocolId.IKE)])
    for seconds in FAREWELL_S:
        peer.send(octets)
        if peer.listen(match, seconds, since) is not None:
            return


# ---- words of a verdict


def demand(right: object, otherwise: str) -> None:
    """CaseFailedError with that text unless it is right."""
    if not right:
        raise CaseFailedError(otherwise)


def names(message: Message | None) -> str:
    """What a response is, for a verdict: its errors, else its payloads."""
    if message is None:
        return "no answer"
    found = [_notify_name(each.notify_type) for each in message.all(p.Notify) if each.is_error]
    return ", ".join(found) or ", ".join(payload.type.name for payload in message.payloads) or "an empty response"


def _notify_name(number: int) -> str:
    return NotifyType(number).name if number in list(NotifyType) else f"notify {number}"


def accepted(message: Message | None) -> Message:
    """The IKE_SA_INIT response, which has to accept."""
    if message is None or not (message.get(p.SecurityAssociation) and message.get(p.KeyExchangePayload) and message.get(p.Nonce)):
        raise CaseFailedError(f"IKE_SA_INIT is not accepted: {names(message)}")
    return message


def came_up(peer: OddPeer, message: Message | None) -> Message:
    """The IKE_AUTH response, which has to authenticate and to make a CHILD_SA."""
    if message is None or not peer.authentic or not peer.children:
        wrong = "its AUTH does not hold or its identity is another" if message and message.get(p.Authentication) else names(message)
        raise CaseFailedError(f"no IKE SA with a CHILD_SA came of IKE_AUTH: {wrong}")
    return message


def refused(message: Message | None, *kinds: NotifyType) -> p.Notify:
    """The first of these notifies in a response that has to refuse."""
    found = None if message is None else next((each for each in map(message.notify, kinds) if each is not None), None)
    if found is None:
        raise CaseFailedError(f"{' or '.join(kind.name for kind in kinds)} is due, it sent: {names(message)}")
    return found


def works(peer: OddSpeaker) -> None:
    """The IKE SA is there: a liveness check is answered (RFC 7296 §2.4)."""
    demand(peer.ask(ExchangeType.INFORMATIONAL) is not None, "the IKE SA does not answer an INFORMATIONAL request afterwards")
