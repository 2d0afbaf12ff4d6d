"""A gateway under test in memory: site B of a `Ladder` behind an `OddWire`, with an ESP that answers echo requests.

Time is the ladder's and passes only while the odd peer waits. `flaws` take one rule of ESP away each; `bend` makes something else
of what B sends, `mend` makes datagrams of what it gets, which are tried until B answers one.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Final

from ipsec_dp.ike import suites
from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import Encrypted
from ipsec_dp.ike.v2.protect import open_message, seal_message
from ipsec_dp.rig.conformance.echoes import answer_to
from ipsec_dp.rig.conformance.kit import EchoEnds, Kit
from ipsec_dp.rig.odd_esp import DUMMY, EspDirection, EspError
from ipsec_dp.rig.odd_parts import Agreed
from ipsec_dp.rig.odd_wire import UdpPayload

from .ladder import ADDRESSES, Ladder, peer

SUITE = "aes128gcm16-prfsha256-ecp256"
ESP_SUITE = suites.esp_suite(parse_esp(["aes128gcm16"])[0])
WINDOW: Final = 64
MARKER: Final = bytes(4)
ECHO = EchoEnds(ip_address("10.1.0.1"), ip_address("10.2.0.9"))
AGREED = Agreed(
    psk=PreSharedKey.from_text("a secret both of them know"),
    local_id=Identity.from_text("gwa.example"),
    remote_id=Identity.from_text("gwb.example"),
    ike=parse_ike([SUITE]),
    esp=parse_esp(["aes128gcm16"]),
    local=(TrafficSelector.from_prefix("10.1.0.0/24"),),
    remote=(TrafficSelector.from_prefix("10.2.0.0/24"),),
)


class Window:
    """Of one inbound SA, as RFC 4303 §3.4.3 has it."""

    def __init__(self):
        self.highest, self.seen = 0, set()

    def admits(self, sequence):
        return sequence > self.highest - WINDOW and sequence not in self.seen and sequence > 0

    def take(self, sequence):
        self.highest = max(self.highest, sequence)
        self.seen.add(sequence)


class EchoingEsp:
    """What answers echo requests by the CHILD_SAs of site B."""

    def __init__(self, sad, flaws=frozenset()):
        self.sad, self.flaws = sad, flaws
        self.windows, self.sent = {}, {}

    def __call__(self, packet):
        """The ESP packet that answers, None when there is none."""
        for child, inbound in self.sad.inbound.items():
            direction = EspDirection(ESP_SUITE, inbound.spi.to_bytes(4, "big"), *keys(inbound))
            if packet[:4] == direction.spi:
                return self._received(child, direction, packet)
        return None

    def _received(self, child, direction, packet):
        window, sequence = self.windows.setdefault(child, Window()), int.from_bytes(packet[4:8], "big")
        if "forged packets move the window" in self.flaws:
            window.take(sequence - 1)
        if not window.admits(sequence) and "replays are taken" not in self.flaws:
            return None
        try:
            opened = direction.open(packet)
        except EspError:
            if "wrong ICVs are taken" not in self.flaws:
                return None
            opened = direction.open(packet[:-1] + bytes([packet[-1] ^ 1]))
        window.take(sequence)
        if opened.next_header == DUMMY and "dummies are taken" not in self.flaws:
            return None
        source = ip_address(opened.payload[12:16])
        if source not in ip_network("10.1.0.0/24") and "selectors are not checked" not in self.flaws:
            return None
        return self._sealed(opened.payload)

    def _sealed(self, inner):
        answer = answer_to(inner)
        outbound = self.sad.outbound[self.sad.sending[-1]]
        number = self.sent[outbound.spi] = self.sent.get(outbound.spi, 0) + 1
        if "sequence numbers start late" in self.flaws:
            number += 10
        return EspDirection(ESP_SUITE, outbound.spi.to_bytes(4, "big"), *keys(outbound)).seal(answer, number)


def keys(action):
    size = ESP_SUITE.encryption.key + ESP_SUITE.encryption.salt
    return action.keymat[:size], action.keymat[size:]


class LadderWire:
    """An OddWire whose other end is site B."""

    def __init__(self, flaws=frozenset(), bend=None, mend=None, **changes):
        self.ladder = Ladder(b=[peer("b", **({"ike_proposals": parse_ike([SUITE])} | changes))])
        self.esp = EchoingEsp(self.ladder.b.sad, flaws)
        self.bend, self.mend = bend, mend
        self.waiting = []
        self.port = 40_000
        self.sent = 0

    @property
    def path(self):
        local, remote = (Endpoint(ip_address(ADDRESSES[site]), port) for site, port in (("a", self.port), ("b", 500)))
        return Path(local, remote)

    def now(self):
        return self.ladder.clock()

    def pace(self):
        pass

    def move(self):
        self.port += 10

    def close(self):
        pass

    def send(self, octets, *, natt):
        self.sent += 1
        if natt and octets[:4] != MARKER:
            answer = self.esp(octets) if len(octets) > 8 and not isinstance(self, Mute) else None
            if answer is not None:
                self.waiting.append(UdpPayload(answer, True))
            return
        port = 4500 if natt else 500
        local, remote = Endpoint(ip_address(ADDRESSES["b"]), port), Endpoint(ip_address(ADDRESSES["a"]), self.port + natt)
        b = self.ladder.b
        datagram, waiting = octets[4 * natt :], len(self.waiting)
        for each in [datagram] if self.mend is None else self.mend(datagram):
            b.do(b.core.receive(each, Path(local, remote, natt), self.now()))
            self.collect()
            if len(self.waiting) > waiting:
                return

    def collect(self):
        while (delivery := self.ladder.wire.take("a")) is not None:
            octets, path = delivery.data
            if path.remote.port == self.port + path.natt:
                made = octets if self.bend is None else self.bend(self, octets)
                self.waiting.append(UdpPayload(path.natt * MARKER + made, path.natt))

    def receive(self, seconds):
        end = self.now() + seconds
        while not self.waiting:
            due = self.ladder.b.core.next_timeout()
            at = end if due is None else min(end, max(due, self.now()))
            self.ladder.clock.advance(at - self.now() + (1e-6 if due is not None and at == due else 0.0))
            if at >= end:
                return None
            self.ladder.b.do(self.ladder.b.core.timer(self.now()))
            self.collect()
        return self.waiting.pop(0)


def protections(wire, octets):
    """(B's own direction, the peer's) of the IKE SA that a message is of; None where it is of none that has keys."""
    for session in wire.ladder.b.core.sessions("to-a"):
        if octets[:16] == session.sa.spi_i + session.sa.spi_r and session.sa.outgoing is not None:
            return session.sa.outgoing, session.sa.incoming
    return None


def resealed(change):
    """A `bend` that makes other payloads of those in protected messages of B, the same of the same. What it says of an IKE SA that
    is not up stays as it is."""
    made = {}

    def bend(wire, octets):
        message, keys = parse_message(octets), protections(wire, octets)
        if keys is None or message.get(Encrypted) is None:
            return octets
        if octets not in made:
            whole = open_message(keys[0], octets, message)
            made[octets] = seal_message(keys[0], message.header, change(whole.payloads), wire.ladder.b.randbytes)
        return made[octets]

    return bend


class Mute(LadderWire):
    """A gateway that gets everything and says nothing."""

    def collect(self):
        while self.ladder.wire.take("a") is not None:
            pass


def kit(wire=None, echo=ECHO, **changes):
    """A kit against a gateway in memory."""
    return Kit(replace(AGREED, **changes), wire or LadderWire(), echo=echo)
