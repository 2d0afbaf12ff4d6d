"""Strangers at a gateway's outer link: whole networks of addresses, each of which receives what is sent to it.

    hostA eth0 -- lan gwA wan == wan gwB net == strangers (198.18.0.0/15)

What they do is a program of its own in their namespace, so that the time it takes is not the test's: `Strangers.begin` starts one,
its outcome is one line of JSON. They speak IKEv2 by the project's own core, as far as somebody gets who has no key.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from benchmarks import strangers_messages as messages
from benchmarks.strangers_hub import certificate as certified
from benchmarks.strangers_hub import name as common_name
from ipsec_dp.host.sockets import IP_PKTINFO
from ipsec_dp.ike.actions import Endpoint, Event, Kind, Report, Send
from ipsec_dp.ike.actions import Path as Ends
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.identity import Identity, IdType
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.peer import Liveness, Peer, SharedKeyAuth
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.rig import netns
from ipsec_dp.rig.netns import Port
from ipsec_dp.rig.packets import ipv4, udp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.ike.actions import Action
    from ipsec_dp.rig.netns import Lab, Namespace, TwoSites

FIRST = "198.18.0.1"
NETWORK = "198.18.0.0/15"
LINK = ("198.51.100.1", "198.51.100.2")  # of gwB, of the strangers
IKE_PORT, NATT_PORT = 500, 4500
NON_ESP_MARKER = bytes(4)
IN_PKTINFO = struct.Struct("@i4s4s")
PROPOSALS = "aes128gcm16-prfsha256-x25519"
OFFER = p.SecurityAssociation(parse_ike([PROPOSALS]))
WINDOW = 64  # requests of somebody who makes half-open IKE SAs that are not answered yet
AGAIN_S = 1.0


# ---- their end of the link -------------------------------------------------------------------------------------------------------


def admit(lab: Lab, sites: TwoSites) -> Namespace:
    """The namespace of strangers, linked to gwB."""
    there = lab.namespace("strangers")
    lab.link(Port(sites.gw_b, "net", (f"{LINK[0]}/24",)), Port(there, "net", (f"{LINK[1]}/24",)))
    sites.gw_b.ip(f"route add {NETWORK} via {LINK[1]}")
    there.ip(f"route add local {NETWORK} dev lo", f"route add default via {LINK[0]}")
    return there


@dataclass
class Strangers:
    """A program of theirs that runs."""

    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, there: Namespace, act: str, **arguments: object) -> Strangers:
        text = json.dumps({"act": act, "hub": netns.GW_B_OUTER[0], **arguments})
        return cls(there.spawn(sys.executable, "-m", "tests.netns.strangers", text, stdout=subprocess.PIPE, stderr=subprocess.PIPE))

    def end(self, seconds: float) -> dict[str, Any]:
        """What it came to, when it has ended by itself."""
        said, wrong = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, wrong.decode()
        answer: dict[str, Any] = json.loads(said)
        return answer


class Crowd:
    """Sends from any address of theirs, and hears what comes back to any; an address is known by its number."""

    def __init__(self, hub: str, first: str = FIRST, port: int = IKE_PORT) -> None:
        """`first`: the address of number 0."""
        self.hub, self._first, self._port = hub, int(IPv4Address(first)), port
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._udp.bind(("", port))
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sent = 0

    def ends(self, number: int) -> Ends:
        """As the stranger of this number sees them."""
        return Ends(Endpoint(IPv4Address(self._first + number), self._port), Endpoint(ip_address(self.hub), self._port))

    def send(self, number: int, datagram: bytes) -> None:
        source = IN_PKTINFO.pack(0, (self._first + number).to_bytes(4, "big"), bytes(4))
        self._udp.sendmsg([datagram], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, (self.hub, self._port))
        self.sent += 1

    def put(self, packet: bytes) -> None:
        """A whole IP packet, with whatever source; no longer than the link's MTU."""
        self._raw.sendto(packet, (self.hub, 0))
        self.sent += 1

    def heard(self, seconds: float = 0.0) -> Iterator[tuple[int, bytes]]:
        """What came, after waiting so long for the first, and whom it came to."""
        while select.select([self._udp], [], [], seconds)[0]:
            datagram, control, _, _ = self._udp.recvmsg(65535, 64)
            to = int.from_bytes(IN_PKTINFO.unpack(control[0][2])[2], "big")
            yield to - self._first, datagram
            seconds = 0.0


class Octets:
    """What a maker of messages asks for."""

    @staticmethod
    def random(octets: int) -> bytes:
        return os.urandom(octets)


def paced(rate: float, seconds: float) -> Iterator[int]:
    """Numbers from 0, so many a second; a turn that comes late is made up for."""
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        while (wait := began + number / rate - time.monotonic()) > 0:
            time.sleep(min(wait, 0.002))
        yield number


# ---- key exchanges that nobody goes on with --------------------------------------------------------------------------------------


def init_request() -> tuple[bytes, bytes]:
    """An IKE_SA_INIT request, good in form, with its SPI."""
    spi = os.urandom(8)
    header = Header(spi, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0)
    return spi, build_message(Message(header, (OFFER, p.KeyExchangePayload(31, os.urandom(32)), p.Nonce(os.urandom(32)))))


def half_open(crowd: Crowd, count: int, addresses: int, seconds: float) -> dict[str, Any]:
    """Makes so many half-open IKE SAs from so many addresses, bringing back each COOKIE."""
    waiting: dict[bytes, tuple[int, bytes, float]] = {}
    held = cookies = begun = 0
    began = now = time.monotonic()
    while held < count and now - began < seconds:
        while len(waiting) < WINDOW and begun < count:
            spi, request = init_request()
            waiting[spi] = begun % addresses, request, now
            crowd.send(begun % addresses, request)
            begun += 1
        for _, datagram in crowd.heard(0.02):
            spi = datagram[:8]
            if spi not in waiting:
                continue
            number, request, _ = waiting[spi]
            cookie = parse_message(datagram).notify(NotifyType.COOKIE)
            if cookie is None:
                held += 1
                del waiting[spi]
                continue
            cookies += 1
            message = parse_message(request)
            request = build_message(replace(message, payloads=(p.Notify(NotifyType.COOKIE, cookie.data), *message.payloads[-3:])))
            waiting[spi] = number, request, now
            crowd.send(number, request)
        now = time.monotonic()
        for spi, (number, request, sent) in list(waiting.items()):
            if now - sent > AGAIN_S:
                waiting[spi] = number, request, now
                crowd.send(number, request)
    return {"held": held, "cookies": cookies, "sent": crowd.sent, "seconds": now - began}


# ---- those that have a core ------------------------------------------------------------------------------------------------------


def sends(actions: list[Action]) -> list[bytes]:
    return [action.datagram for action in actions if isinstance(action, Send)]


def events(actions: list[Action]) -> list[Event]:
    return [action.event for action in actions if isinstance(action, Report)]


def caller(hub: str, number: int, psk: str) -> IkeManager:
    """The core of the one that says it is the hub's peer wNUMBER, with a key of its own choice."""
    spis = count(0x1000)
    peer = Peer(
        tunnel="hub",
        auth=SharedKeyAuth(PreSharedKey.from_text(psk)),
        ike_proposals=parse_ike([PROPOSALS]),
        esp_proposals=parse_esp(["aes128gcm16"]),
        proxy_ids=(ProxyId(TrafficSelector.from_prefix(net_of(number)), TrafficSelector.from_prefix(netns.SITE_B_NETS[0])),),
        remotes=(ip_address(hub),),
        local_id=Identity.from_text(f"w{number}.example"),
        remote_id=Identity.from_text("hub.example"),
        liveness=Liveness(0.0),
    )
    epoch = datetime.now(UTC) - timedelta(seconds=time.monotonic())
    return IkeManager(Environment(os.urandom, lambda _: next(spis), lambda now: epoch + timedelta(seconds=now)), [peer])


def net_of(number: int) -> str:
    """Behind the peer wNUMBER."""
    high, low = divmod(number, 256)
    return f"10.{64 + high}.{low}.0/24"


def auth_flood(crowd: Crowd, kind: str, rate: float, seconds: float, pem: str, patience: float = AGAIN_S) -> dict[str, Any]:
    """So many key exchanges a second, each with an IKE_AUTH request of one kind whose proof is wrong. `patience`: seconds that the
    last answers are waited for."""
    root = x509.load_pem_x509_certificate(Path(pem, "root.crt").read_bytes())
    signer = load_pem_private_key(Path(pem, "root.key").read_bytes(), None)
    known = {name: payloads for name, _, payloads in messages.auths((root, signer))}
    known |= with_controls(known["a wrong shared key"][1:])
    callers: dict[bytes, IkeManager] = {}
    sent = answered = 0

    def hear(wait: float) -> None:
        nonlocal sent, answered
        for number, datagram in crowd.heard(wait):
            one = callers.get(datagram[:8])
            if one is None:
                continue
            if datagram[18] == ExchangeType.IKE_AUTH:
                answered += 1
                del callers[datagram[:8]]
                continue
            again = sends(one.receive(datagram, crowd.ends(number), time.monotonic()))
            (session,) = one.sessions()
            if session.sa.outgoing is not None:
                again = list(messages.sealed(Octets, session, known[kind], 65_000))
                sent += 1
            for each in again:
                crowd.send(number, each)

    for number in paced(rate, seconds):
        one = caller(crowd.hub, 0, "guessed")
        (request,) = sends(one.initiate("hub", crowd.ends(number), time.monotonic()))
        callers[request[:8]] = one
        crowd.send(number, request)
        hear(0.0)
    deadline = time.monotonic() + patience
    while callers and time.monotonic() < deadline:
        hear(0.05)
    return {"sent": sent, "answered": answered}


CONTROLS = "w1\n2026-01-01 00:00:00,000 ERROR down\x1b[2Jowned\x07\u202egnp"


def with_controls(rest: tuple[p.Payload, ...]) -> dict[str, tuple[p.Payload, ...]]:
    """Names that would write into a log or a terminal, each before the `rest` of a request."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certified(common_name(CONTROLS), key.public_key(), common_name(CONTROLS), key)
    encoded = p.Certificate(4, certificate.public_bytes(Encoding.DER))
    dn = p.IdentificationInitiator(IdType.DER_ASN1_DN, certificate.subject.public_bytes())
    of_w1 = Identity.from_text("C=DE, O=Organisation, OU=Unit, CN=w1")
    return {
        "controls in an identity": (p.IdentificationInitiator(IdType.FQDN, CONTROLS.encode()), *rest),
        "controls in a DN": (dn, encoded, *rest),
        "controls in a certificate": (p.IdentificationInitiator(IdType.DER_ASN1_DN, of_w1.data), encoded, *rest),
    }


def warriors(crowd: Crowd, count: int, psk: str, seconds: float) -> dict[str, Any]:
    """So many genuine peers, w0, w2 and so on, that all call at once."""
    cores = [caller(crowd.hub, 2 * number, psk) for number in range(count)]
    up: dict[int, float] = {}
    failed: list[str] = []

    def do(number: int, actions: list[Action]) -> None:
        for datagram in sends(actions):
            crowd.send(number, datagram)
        for event in events(actions):
            if event.kind is Kind.CHILD_UP:
                up.setdefault(number, time.monotonic() - began)
            elif event.kind in (Kind.IKE_FAILED, Kind.CHILD_FAILED, Kind.IKE_DOWN):
                failed.append(str(event))

    began = now = time.monotonic()
    for number, core in enumerate(cores):
        do(number, core.initiate("hub", crowd.ends(number), now))
    while len(up) < count and now - began < seconds:
        for number, datagram in crowd.heard(0.02):
            do(number, cores[number].receive(datagram, crowd.ends(number), time.monotonic()))
        now = time.monotonic()
        for number, core in enumerate(cores):
            if (due := core.next_timeout()) is not None and due <= now:
                do(number, core.timer(now))
    return {"up": len(up), "failed": failed, "seconds": max(up.values(), default=0.0), "sent": crowd.sent}


# ---- what is no key exchange -----------------------------------------------------------------------------------------------------


def init_flood(crowd: Crowd, kinds: list[str], rate: float, seconds: float) -> dict[str, Any]:
    """Messages of these kinds in turn, each from another address."""
    known = dict(messages.inits())
    turn = cycle([known[kind] for kind in kinds])
    answered = 0
    for number in paced(rate, seconds):
        crowd.send(number, next(turn)(Octets))
        answered += sum(1 for _ in crowd.heard())
    return {"sent": crowd.sent, "answered": answered}


def noise(crowd: Crowd, source: str, kind: str, rate: float, seconds: float) -> dict[str, Any]:
    """Small datagrams of one kind, or of all in turn. `source`: the address they all say they come from, "": each another."""
    makers: dict[str, Callable[[str], bytes]] = {
        "ESP": lambda ours: ipv4(ours, crowd.hub, os.urandom(80), protocol=50),
        "ESP in UDP": lambda ours: udp(ours, crowd.hub, os.urandom(80), ports=(NATT_PORT, NATT_PORT)),
        "garbage on 4500": lambda ours: udp(ours, crowd.hub, NON_ESP_MARKER + os.urandom(200), ports=(NATT_PORT, NATT_PORT)),
        "garbage on 500": lambda ours: udp(ours, crowd.hub, os.urandom(200), ports=(IKE_PORT, IKE_PORT)),
        "a request on 4500": lambda ours: udp(ours, crowd.hub, NON_ESP_MARKER + init_request()[1], ports=(NATT_PORT, NATT_PORT)),
        "a request": lambda ours: udp(ours, crowd.hub, init_request()[1], ports=(IKE_PORT, IKE_PORT)),
    }
    for name, make in messages.inits():
        if len(make(Octets)) < 1400:
            makers[name] = lambda ours, make=make: udp(ours, crowd.hub, make(Octets), ports=(IKE_PORT, IKE_PORT))  # type: ignore[misc]
    chosen = cycle(list(makers.values()) if kind == "all" else [makers[kind]])
    for number in paced(rate, seconds):
        crowd.put(next(chosen)(source or str(crowd.ends(number % 100_000).local.address)))
    return {"sent": crowd.sent, "kinds": sorted(makers)}


ACTS: dict[str, Callable[..., dict[str, Any]]] = {
    each.__name__: each for each in (half_open, auth_flood, warriors, init_flood, noise)
}


def main() -> None:
    arguments = json.loads(sys.argv[1])
    act = ACTS[arguments.pop("act")]
    crowd = Crowd(arguments.pop("hub"), arguments.pop("first", FIRST))
    print(json.dumps(act(crowd, **arguments)), flush=True)


if __name__ == "__main__":
    main()
