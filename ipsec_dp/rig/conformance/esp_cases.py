"""ESP over UDP: sequence numbers, replay, ICV, padding, selectors, and the life of its SA (RFC 4303, RFC 3948, RFC 4301 §5.2)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.rig.conformance import echoes
from ipsec_dp.rig.conformance.child_cases import NO_MORE, made, rekeyed
from ipsec_dp.rig.conformance.kit import ALIVE_S, SHOULD, CaseFailedError, Cases, Kit, NotApplicableError, came_up, demand
from ipsec_dp.rig.odd_esp import DUMMY, OpenedEsp, monotonic
from ipsec_dp.rig.odd_exchanges import create_child, delete_child

if TYPE_CHECKING:
    from ipsec_dp.rig.conformance.kit import EchoEnds
    from ipsec_dp.rig.odd_parts import Heard
    from ipsec_dp.rig.odd_peer import OddPeer
    from ipsec_dp.rig.odd_sas import OddChild

CASES = Cases()
UNLESS: Final = "there is no --echo address, or it does not answer"
LEAST_WINDOW: Final = 32  # that every receiver has (RFC 4303 §3.4.3)
FAR: Final = 1_000_000  # further than any window
FOREIGN: Final = {4: ip_address("203.0.113.7"), 6: ip_address("2001:db8:ffff::7")}


class Pings:
    """A CHILD_SA over which an address behind the gateway answers echo requests, each under a sequence number of our choice."""

    def __init__(self, kit: Kit, peer: OddPeer) -> None:
        if kit.echo is None:
            raise NotApplicableError("there is no --echo address")
        self.kit, self.peer, self.echo = kit, peer, kit.echo
        self.number = 0

    @property
    def child(self) -> OddChild:
        return self.peer.children[-1]

    def request(self, echo: EchoEnds | None = None) -> bytes:
        """The next echo request."""
        self.number += 1
        return echoes.request(echo or self.echo, self.number)

    def send(self, packet: bytes) -> None:
        self.peer.wire.send(packet, natt=True)

    def reply(self, number: int, seconds: float, since: int = 0) -> OpenedEsp | None:
        """The reply to the echo request of that number."""
        found = self.peer.listen(
            lambda heard: heard.esp is not None and echoes.replied(heard.esp.payload) == number, seconds, since
        )
        return None if found is None else found.esp

    def answered(self, sequence: int, child: OddChild | None = None) -> OpenedEsp:
        """The reply to an echo request under that sequence number, which has to come."""
        self.send((child or self.child).outgoing.seal(self.request(), sequence))
        found = self.reply(self.number, ALIVE_S)
        if found is None:
            raise CaseFailedError(f"the echo request of sequence number {sequence} has no reply")
        return found

    def not_answered(self, packet: bytes, number: int, control: int, what: str, since: int = 0) -> None:
        """That packet has no reply of that number, though the echo request under sequence number `control` after it has one."""
        self.send(packet)
        self.answered(control)
        demand(self.reply(number, self.kit.grace, since) is None, what)


def pings(kit: Kit, peer: OddPeer | None = None) -> Pings:
    """Over a fresh CHILD_SA whose first echo request, of sequence number 1, was answered."""
    if kit.echo is None:
        raise NotApplicableError("there is no --echo address")
    found = Pings(kit, peer or kit.up())
    try:
        found.answered(1)
    except CaseFailedError:
        raise NotApplicableError(f"{found.echo.destination} does not answer") from None
    return found


def forged(packet: bytes) -> bytes:
    return packet[:-1] + bytes([packet[-1] ^ 1])


@CASES.add("RFC 4303 §2", "an echo request by ESP is answered by ESP on our SPI, in UDP", unless="there is no --echo address")
def esp_carries_packets(kit: Kit) -> None:
    found = Pings(kit, kit.up())
    try:
        reply = found.answered(1)
    except CaseFailedError:
        reply = found.answered(2)  # the first packet may have waited for an address to be resolved
    demand(echoes.replied(reply.payload) == found.number, "the reply is another")


@CASES.add("RFC 4303 §3.3.3", "the sender's sequence numbers begin at 1 and go up by 1", unless=UNLESS)
def esp_sequence_numbers(kit: Kit) -> None:
    found = pings(kit)
    for sequence in (2, 3, 4):
        found.answered(sequence)
    sequences = [heard.esp.sequence for heard in found.peer.heard if heard.esp is not None]
    demand(sequences == list(range(1, len(sequences) + 1)), f"they are {', '.join(map(str, sequences))}")


@CASES.add("RFC 4106 §3.1", "no IV is used twice", unless=UNLESS)
def esp_ivs(kit: Kit) -> None:
    found = pings(kit)
    ivs = [found.answered(sequence).iv for sequence in (2, 3, 4, 5)]
    demand(len(set(ivs)) == len(ivs), "one came twice")


@CASES.add("RFC 4303 §2.4", "the sender's padding is 1, 2, 3 and so on, and ends on a multiple of 4 octets", unless=UNLESS)
def esp_padding_of_the_sender(kit: Kit) -> None:
    reply = pings(kit).answered(2)
    demand(reply.padding == monotonic(len(reply.padding)), f"it is {reply.padding.hex()}")
    demand((len(reply.payload) + len(reply.padding) + 2) % 4 == 0, "it does not end there")


@CASES.add("RFC 4303 §2.4", "255 octets of padding are taken", unless=UNLESS)
def esp_longest_padding(kit: Kit) -> None:
    found = pings(kit)
    request = found.request()
    octets = 255 - (255 - found.child.outgoing.shortest_padding(len(request))) % found.child.suite.encryption.block
    found.send(found.child.outgoing.seal(request, 2, padding=monotonic(octets)))
    demand(found.reply(found.number, ALIVE_S) is not None, "there is no reply")


@CASES.add("RFC 4303 §3.4.4", "a packet whose ICV does not hold is discarded", unless=UNLESS)
def esp_wrong_icv(kit: Kit) -> None:
    found = pings(kit)
    packet = forged(found.child.outgoing.seal(found.request(), 2))
    found.not_answered(packet, found.number, 3, "there is a reply")


@CASES.add("RFC 4303 §3.4.3", "a packet that comes twice is discarded the second time", unless=UNLESS)
def esp_replay(kit: Kit) -> None:
    found = pings(kit)
    packet = found.child.outgoing.seal(found.request(), 2)
    number = found.number
    found.send(packet)
    demand(found.reply(number, ALIVE_S) is not None, "the first has no reply")
    found.not_answered(packet, number, 3, "the second has a reply too", since=len(found.peer.heard))


@CASES.add("RFC 4303 §3.4.3", "a packet that is up to 31 numbers behind the highest is taken", unless=UNLESS)
def esp_late_packet(kit: Kit) -> None:
    found = pings(kit)
    found.answered(LEAST_WINDOW + 9)
    found.answered(10)  # 31 behind


@CASES.add("RFC 4303 §3.4.3", "a packet far behind the window is discarded", unless=UNLESS)
def esp_old_packet(kit: Kit) -> None:
    found = pings(kit)
    found.answered(FAR)
    packet = found.child.outgoing.seal(found.request(), 2)
    found.not_answered(packet, found.number, FAR + 1, "there is a reply")


@CASES.add("RFC 4303 §3.4.3", "a gap in the sequence numbers is taken", unless=UNLESS)
def esp_jump(kit: Kit) -> None:
    found = pings(kit)
    for sequence in (1000, FAR, 0x7FFF_FFFF):
        found.answered(sequence)


@CASES.add("RFC 4303 §3.4.3", "the window moves by a packet whose ICV holds, and by no other", unless=UNLESS)
def esp_forged_jump(kit: Kit) -> None:
    found = pings(kit)
    packet = forged(found.child.outgoing.seal(found.request(), FAR))
    found.not_answered(packet, found.number, 2, "there is a reply to the forged one")


@CASES.add("RFC 4303 §2.6", "a dummy packet is discarded, and is no error", unless=UNLESS)
def esp_dummy_packet(kit: Kit) -> None:
    found = pings(kit)
    packet = found.child.outgoing.seal(found.request(), 2, next_header=DUMMY)
    found.not_answered(packet, found.number, 3, "it is taken for a packet")


@CASES.add(
    "RFC 7296 §1.3.1",
    "TFC padding behind the packet is passed over (RFC 4303 §2.7)",
    level=SHOULD,
    unless="it sends ESP_TFC_PADDING_NOT_SUPPORTED, or no --echo answers",
)
def esp_tfc_padding(kit: Kit) -> None:
    peer = kit.begun()
    message = came_up(peer, peer.auth())
    if message.notify(NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED) is not None:
        raise NotApplicableError("it says that it does not take it")
    found = pings(kit, peer)
    found.send(found.child.outgoing.seal(found.request() + bytes(100), 2))
    demand(found.reply(found.number, ALIVE_S) is not None, "there is no reply")


@CASES.add("RFC 4301 §5.2", "a packet that the CHILD_SA's selectors do not hold is discarded", unless=UNLESS)
def esp_foreign_source(kit: Kit) -> None:
    found = pings(kit)
    foreign = replace(found.echo, source=FOREIGN[found.echo.source.version])
    packet = found.child.outgoing.seal(found.request(foreign), 2)
    found.not_answered(packet, found.number, 3, "there is a reply")


@CASES.add("RFC 7296 §1.4.1", "after the DELETE of a CHILD_SA its packets are discarded", unless=UNLESS)
def esp_after_delete(kit: Kit) -> None:
    found = pings(kit)
    child = found.child
    demand(delete_child(found.peer, child) is not None, "the DELETE is not answered")
    since = len(found.peer.heard)
    found.send(child.outgoing.seal(found.request(), 2))
    kit.stays_silent(found.peer, _is_esp, since, "there is a reply")


def _is_esp(heard: Heard) -> bool:
    return heard.natt and heard.message is None and len(heard.octets) > 8


@CASES.add(
    "RFC 7296 §2.8",
    "after the rekey of a CHILD_SA packets are taken by both, until the old one is deleted",
    unless=f"{UNLESS}, or {NO_MORE}",
)
def esp_after_rekey(kit: Kit) -> None:
    found = pings(kit)
    old = found.child
    made(found.peer, create_child(found.peer, old), 2)
    found.answered(1)
    found.answered(2, old)
    demand(delete_child(found.peer, old) is not None, "the DELETE of the old one is not answered")
    found.answered(2)


@CASES.add("RFC 7296 §2.8", "CHILD_SAs carry packets under a rekeyed IKE SA", unless=f"{UNLESS}, or it rekeys no IKE SA")
def esp_after_ike_rekey(kit: Kit) -> None:
    if kit.echo is None:
        raise NotApplicableError("there is no --echo address")
    peer, _ = rekeyed(kit)
    pings(kit, peer).answered(2)


@CASES.add(
    "RFC 7296 §2.23",
    "ESP goes to where the last authentic packet came from, behind a NAT",
    level=SHOULD,
    unless=UNLESS,
)
def esp_follows_the_port(kit: Kit) -> None:
    found = pings(kit)
    found.peer.wire.move()
    demand(found.peer.ask(ExchangeType.INFORMATIONAL) is not None, "a request from the new port is not answered")
    found.answered(2)
