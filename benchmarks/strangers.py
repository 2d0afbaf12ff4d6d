"""What a message of somebody who has proven nothing costs a gateway's IKE, in processor time and in memory that stays held.

Every kind that reaches the control plane before AUTH has held: each payload at its largest, each group, fragments, certificates,
selectors, identities; beside 1, 100 and 1,000 tunnels. In memory: no socket, no clock but the processor's own.

    python -m benchmarks.strangers [--tunnels 1 100 1000] [--each 9]

The table has the worst first, the last line the worst of all; the exit status is 1 when one is above the ceiling.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from ipaddress import ip_address
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Endpoint, Path, Report, Send
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Trust
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.identity import Identity, IdType
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.peer import Peer, SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.proposal import Proposal, ProtocolId, parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.fragment import seal_datagrams
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipsec_dp.ike.v2.session import IkeSession

    Anchor = tuple[x509.Certificate, Any]

CEILING_S, CEILING_OCTETS = 0.010, 16 * 1024
NOW = 1000.0
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Endpoint(ip_address("192.0.2.1"), 500)
EVERYTHING = [
    "aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096",
]
PAYLOADS_MOST = 120  # of one message; the parser takes 128


@dataclass(frozen=True)
class Cost:
    """Of one kind of message, beside so many tunnels: seconds of processor time, octets that stay held."""

    kind: str
    tunnels: int
    seconds: float
    octets: float


# ---- the gateway -----------------------------------------------------------------------------------------------------------------


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject: str, key: Any, issuer: str, signer: Any, *extensions: tuple[Any, bool]) -> x509.Certificate:
    builder = x509.CertificateBuilder(_name(issuer), _name(subject), key, x509.random_serial_number())
    builder = builder.not_valid_before(TODAY - timedelta(days=1)).not_valid_after(TODAY + timedelta(days=3650))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


CA = (x509.BasicConstraints(ca=True, path_length=None), True)


@cache
def authority() -> Anchor:
    """The one that the gateway trusts, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate("root", key.public_key(), "root", key, CA), key


@cache
def _signature() -> SignatureAuth:
    root, signer = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    return SignatureAuth(Credential((certificate("hub", key.public_key(), "root", signer),), key), Trust((root,)))


def _proxy_ids(count: int) -> tuple[ProxyId, ...]:
    here = TrafficSelector.from_prefix("10.200.0.0/16")
    return tuple(ProxyId(here, TrafficSelector.from_prefix(f"10.{number}.0.0/16", 6)) for number in range(count))


def _peers(tunnels: int) -> list[Peer]:
    """Tunnels that take anybody: half by shared keys, half by certificates, with identities of every kind, 50 proxy IDs each."""
    common: dict[str, Any] = {
        "ike_proposals": parse_ike(EVERYTHING),
        "esp_proposals": parse_esp(["aes128gcm16"]),
        "proxy_ids": _proxy_ids(50),
    }
    texts = ("w{}.example", "C=DE, O=Organisation, OU=Unit, CN=w{}", "w{}@example", "keyid:w{}")
    proofs = (lambda: SharedKeyAuth(PreSharedKey.from_text("a secret that nobody has")), _signature)
    return [
        Peer(
            tunnel=f"w{number}",
            auth=proofs[number % 2](),
            local_id=Identity.from_text("hub.example"),
            remote_id=Identity.from_text(texts[number % 4].format(number)),
            **common,
        )
        for number in range(tunnels)
    ]


class Hub:
    """A gateway, and strangers that each come from another address."""

    def __init__(self, tunnels: int) -> None:
        self._rng = Random(1)
        self._addresses = count(0x0B000000)
        self.core = IkeManager(self._environment(), _peers(tunnels))
        self.now = NOW

    def _environment(self) -> Environment:
        spis = count(0x1000)
        return Environment(self._rng.randbytes, lambda _: next(spis), lambda _: TODAY)

    def random(self, octets: int) -> bytes:
        return self._rng.randbytes(octets)

    def path(self) -> Path:
        return Path(HERE, Endpoint(ip_address(next(self._addresses)), 500))

    def half_open(self) -> tuple[IkeSession, Path]:
        """A stranger who has made a key exchange, and his end of it."""
        peer = Peer(
            tunnel="hub",
            auth=SharedKeyAuth(PreSharedKey.from_text("guessed")),
            ike_proposals=parse_ike(["aes128gcm16-prfsha256-x25519"]),
            esp_proposals=parse_esp(["aes128gcm16"]),
            proxy_ids=_proxy_ids(1),
            remotes=(HERE.address,),
        )
        caller, path = IkeManager(self._environment(), [peer]), self.path()
        back = Path(path.remote, path.local)
        (request,) = [one.datagram for one in caller.initiate("hub", back, self.now) if isinstance(one, Send)]
        self.now += 1.0  # fewer than need a cookie, and time goes on
        for _ in range(2):  # the second time with the cookie, if one is wanted
            answers = [one.datagram for one in self.core.receive(request, path, self.now) if isinstance(one, Send)]
            sent = [one.datagram for answer in answers for one in caller.receive(answer, back, self.now) if isinstance(one, Send)]
            (session,) = caller.sessions()
            if session.sa.outgoing is not None:
                return session, path
            (request,) = sent
        raise RuntimeError("no key exchange with the hub")


# ---- what a stranger sends -------------------------------------------------------------------------------------------------------


class Sender(Protocol):
    """Whoever makes a message: a source of octets."""

    def random(self, octets: int) -> bytes: ...


def _init(by: Sender, *payloads: p.Payload) -> bytes:
    return build_message(Message(Header(by.random(8), bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0), payloads))


def _offer() -> p.SecurityAssociation:
    return p.SecurityAssociation(parse_ike(["aes128gcm16-prfsha256-x25519"]))


def _ke(by: Sender) -> p.KeyExchangePayload:
    return p.KeyExchangePayload(31, by.random(32))


def _of_group(by: Sender, keyword: str, group: int, public: bytes) -> bytes:
    offer = p.SecurityAssociation(parse_ike([f"aes128gcm16-prfsha256-{keyword}"], legacy=True))
    return _init(by, offer, p.KeyExchangePayload(group, public), p.Nonce(by.random(32)))


def _proposals(number: int) -> tuple[Proposal, ...]:
    """As many as a payload may hold, none of which fits but the last."""
    (wrong,) = parse_ike(["aes256-sha512-prfsha512-ecp521"])
    return tuple(Proposal(1 + at, ProtocolId.IKE, b"", wrong.transforms) for at in range(number))


def inits() -> Iterator[tuple[str, Callable[[Sender], bytes]]]:
    """What is no IKE_AUTH of an IKE SA that is there: the kind, who makes one."""
    for group in GROUPS:
        key = dh.initiate(group, Random(2).randbytes)
        yield f"IKE_SA_INIT, {group.keyword}", partial(_of_group, keyword=group.keyword, group=group.id, public=key.public)
        yield (
            f"IKE_SA_INIT, {group.keyword}, unfit value",
            partial(_of_group, keyword=group.keyword, group=group.id, public=bytes(group.public)),
        )
    nonce = p.Nonce(bytes(256))
    many = tuple(p.Notify(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20)) for _ in range(PAYLOADS_MOST))
    long_ = tuple(p.VendorId(bytes(500)) for _ in range(PAYLOADS_MOST))
    cookie = p.Notify(NotifyType.COOKIE, bytes(64))
    yield "IKE_SA_INIT, 60 proposals, none fits", lambda by: _init(by, p.SecurityAssociation(_proposals(60)), _ke(by), nonce)
    yield "IKE_SA_INIT, 120 NAT_DETECTION notifies", lambda by: _init(by, _offer(), _ke(by), nonce, *many)
    yield "IKE_SA_INIT, 60 KB of vendor IDs", lambda by: _init(by, _offer(), _ke(by), nonce, *long_)
    yield "IKE_SA_INIT, a cookie of somebody else's", lambda by: _init(by, cookie, _offer(), _ke(by), nonce)
    yield "IKE_SA_INIT, a payload missing", lambda by: _init(by, _offer(), nonce)
    yield (
        "IKE_AUTH, of no IKE SA",
        lambda by: by.random(16) + bytes([46, 0x20, 35, 8]) + bytes(4) + (64).to_bytes(4, "big") + bytes(36),
    )
    yield "IKEv1", lambda by: by.random(8) + bytes(8) + bytes([1, 0x10, 2, 0]) + bytes(4) + (28).to_bytes(4, "big")
    yield "IKEv3", lambda by: by.random(8) + bytes(8) + bytes([33, 0x30, 34, 8]) + bytes(4) + (28).to_bytes(4, "big")
    yield "no IKE at all, 64 KB", lambda by: by.random(65_000)


def _selectors(number: int, prefix: str, protocol: int) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_prefix(prefix.format(at), protocol) for at in range(number))


def _dn(octets: int) -> bytes:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{number:060}") for number in range(octets // 75)]
    return x509.Name(attributes).public_bytes()


@cache
def _chain(kind: str) -> tuple[p.Certificate, ...]:
    """Six certificates that lead nowhere, or only after much looking."""
    names = x509.SubjectAlternativeName([x509.DNSName(f"n{number}.example") for number in range(100)])
    constraints = x509.NameConstraints([x509.DNSName(f"n{number}.example") for number in range(32)], None)
    keys = [ec.generate_private_key(ec.SECP521R1()) for _ in range(6)]
    if kind == "RSA":
        publics: list[Any] = [rsa.RSAPublicNumbers(65537, (1 << 8191) | (2 * number + 1)).public_key() for number in range(6)]
    elif kind == "RSA of 16384 bits":
        publics = [rsa.RSAPublicNumbers(65537, (1 << 16383) | (2 * number + 1)).public_key() for number in range(6)]
    else:
        publics = [key.public_key() for key in keys]
    made = [certificate("leaf", publics[0], "c1", keys[1], (names, False))]
    for number in range(1, 6):
        extensions = (CA, (constraints, True)) if kind == "constraints" else (CA,)
        made.append(certificate(f"c{number}", publics[number], f"c{number + 1}", keys[(number + 1) % 6], *extensions))
    return tuple(p.Certificate(4, one.public_bytes(Encoding.DER)) for one in made)


def _borrowed(anchor: Anchor) -> tuple[p.Certificate, ...]:
    """Another peer's good certificates, which anybody may have seen: the largest key, many names, an authority with constraints."""
    root, signer = anchor
    between = ec.generate_private_key(ec.SECP521R1())
    names = [x509.DNSName(f"n{number}.example") for number in range(100)]
    constraints = x509.NameConstraints(
        [x509.DNSName(f"n{number}.example") for number in range(31)] + [x509.DNSName("example")], None
    )
    sub = certificate("sub", between.public_key(), "root", signer, CA, (constraints, True))
    key = rsa.RSAPublicNumbers(65537, (1 << 8191) | 1).public_key()
    builder = x509.CertificateBuilder(_name("sub"), x509.Name.from_rfc4514_string("CN=w1,OU=Unit,O=Organisation,C=DE"), key, 7)
    builder = builder.not_valid_before(TODAY - timedelta(days=1)).not_valid_after(TODAY + timedelta(days=3650))
    leaf = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(between, hashes.SHA256())
    return tuple(p.Certificate(4, one.public_bytes(Encoding.DER)) for one in (leaf, sub, root))


def auths(anchor: Anchor) -> Iterator[tuple[str, str, tuple[p.Payload, ...]]]:
    """IKE_AUTH requests whose proof is wrong: the kind, what the gateway says of it, the payloads. `anchor`: what it trusts."""
    name = p.IdentificationInitiator(IdType.FQDN, b"w0.example")
    dn = p.IdentificationInitiator(IdType.DER_ASN1_DN, Identity.from_text("C=DE, O=Organisation, OU=Unit, CN=w1").data)
    proof = p.Authentication(2, bytes(32))
    sha256_rsa = bytes.fromhex("300d06092a864886f70d01010b0500")
    signature = p.Authentication(14, bytes([len(sha256_rsa)]) + sha256_rsa + bytes(1023) + b"\2")
    offer = (Proposal(1, ProtocolId.ESP, b"\1\0\0\0", one.transforms) for one in parse_esp(["aes128gcm16"]))
    esp = p.SecurityAssociation(tuple(offer))
    few = (
        p.TrafficSelectorsInitiator(_selectors(1, "10.{}.0.0/16", 6)),
        p.TrafficSelectorsResponder(_selectors(1, "10.200.{}.0/24", 6)),
    )
    most = (
        p.TrafficSelectorsInitiator(_selectors(255, "10.{}.0.0/16", 0)),
        p.TrafficSelectorsResponder(_selectors(255, "10.200.{}.0/24", 0)),
    )
    notifies = tuple(p.Notify(NotifyType.ADDITIONAL_TS_POSSIBLE, bytes(200)) for _ in range(100))
    differ, unknown = "the shared keys differ", "the peer says it is"
    for kind, identity in {
        "an identity of nobody's": (IdType.FQDN, b"nobody.example"),
        "an identity of 1024 octets": (IdType.FQDN, b"a." * 511 + b"ab"),
        "a DN of 900 octets": (IdType.DER_ASN1_DN, _dn(900)),
    }.items():
        yield kind, unknown, (p.IdentificationInitiator(*identity), proof, esp, *few)
    yield "a wrong shared key", differ, (name, proof, esp, *few)
    yield "255 × 255 selectors", differ, (name, proof, esp, *most)
    yield "100 notifies", differ, (name, proof, esp, *few, *notifies)
    yield "20 KB of authorities", differ, (name, p.CertificateRequest(4, bytes(20_000)), proof, esp, *few)
    yield "without AUTH (EAP)", "EAP", (name, esp, *few)
    for chain in ("P-521", "constraints", "RSA"):
        yield f"six certificates, {chain}", "does not lead to one of our", (dn, *_chain(chain), signature, esp, *few)
    yield "six certificates, RSA of 16384 bits", "16384 bits", (dn, *_chain("RSA of 16384 bits"), signature, esp, *few)
    yield "another peer's certificates", "signature", (dn, *_borrowed(anchor), signature, esp, *few)


def sealed(by: Sender, session: IkeSession, payloads: Iterable[p.Payload], room: int) -> Sequence[bytes]:
    """The IKE_AUTH request of a session that has keys."""
    header = Header(session.sa.spi_i, session.sa.spi_r, ExchangeType.IKE_AUTH, Flag.INITIATOR, 1)
    if session.sa.outgoing is None:
        raise RuntimeError("no keys")
    return seal_datagrams(session.sa.outgoing, header, list(payloads), by.random, room=room, fragment=True)


# ---- what it costs ---------------------------------------------------------------------------------------------------------------


def _measured(hub: Hub, kind: str, tunnels: int, each: int, made: Callable[[], tuple[bytes, Path]]) -> Cost:
    """`made` gives one message a call; what is measured is the gateway's part alone."""
    times, held = [], []
    for _ in range(each):
        datagram, path = made()
        hub.now += 0.1
        began = time.process_time()
        hub.core.receive(datagram, path, hub.now)
        times.append(time.process_time() - began)
    gc.collect()
    tracemalloc.start()
    for _ in range(each):
        datagram, path = made()
        hub.now += 0.1
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        hub.core.receive(datagram, path, hub.now)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    return Cost(kind, tunnels, statistics.median(times), statistics.median(held))


def _check(hub: Hub, says: str, datagram: bytes, path: Path) -> None:
    """RuntimeError when the gateway says something else: then what is measured is not what it is called."""
    told = [one.event.text for one in hub.core.receive(datagram, path, hub.now) if isinstance(one, Report)]
    if not any(says in text for text in told):
        raise RuntimeError(f"expected an event about {says!r}, got {told}")


def costs(tunnels: int, each: int) -> Iterator[Cost]:
    """Of every kind, beside so many tunnels; `each`: messages of a kind, whose median counts."""
    gc.collect()
    gc.freeze()  # what was there before, of whoever asks, is not looked through for each message
    try:
        yield from _costs(tunnels, each)
    finally:
        gc.unfreeze()


def _costs(tunnels: int, each: int) -> Iterator[Cost]:
    for kind, make in inits():
        hub = Hub(tunnels)

        def fresh(hub: Hub = hub, make: Callable[[Sender], bytes] = make) -> tuple[bytes, Path]:
            return make(hub), hub.path()

        yield _measured(hub, kind, tunnels, each, fresh)
    for kind, says, payloads in auths(authority()):
        hub = Hub(max(tunnels, 2))  # one that authenticates by a shared key, one by certificates

        def whole(hub: Hub = hub, payloads: tuple[p.Payload, ...] = payloads) -> tuple[bytes, Path]:
            session, path = hub.half_open()
            return sealed(hub, session, payloads, 65_000)[0], path

        _check(hub, says, *whole())
        yield _measured(hub, f"IKE_AUTH, {kind}", tunnels, each, whole)
    hub = Hub(tunnels)

    def fragment(hub: Hub = hub) -> tuple[bytes, Path]:
        session, path = hub.half_open()
        return sealed(hub, session, [p.VendorId(hub.random(14_000)), p.VendorId(hub.random(14_000))], 15_000)[0], path

    yield _measured(hub, "IKE_AUTH, a fragment of 15 KB", tunnels, each, fragment)


def table(found: Iterable[Cost]) -> list[str]:
    """Lines for people, the worst first."""
    rows = sorted(found, key=lambda one: max(one.seconds * CEILING_OCTETS, one.octets * CEILING_S), reverse=True)
    return [f"{one.kind:45} {one.tunnels:6} tunnels {1000 * one.seconds:8.2f} ms {one.octets / 1024:8.1f} KiB" for one in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.strangers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tunnels", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--each", type=int, default=9)
    asked = parser.parse_args(arguments)
    found: list[Cost] = []
    for tunnels in asked.tunnels:
        for cost in costs(tunnels, asked.each):
            found.append(cost)
            if sys.stderr.isatty():
                print(f"\r{len(found)} kinds measured: {cost.kind:60}", end="", file=sys.stderr)
    print("\n".join(table(found)))
    slowest, largest = max(found, key=lambda one: one.seconds), max(found, key=lambda one: one.octets)
    print(
        f"worst: {1000 * slowest.seconds:.2f} ms ({slowest.kind}, {slowest.tunnels} tunnels), "
        f"{largest.octets / 1024:.1f} KiB ({largest.kind}); ceiling {1000 * CEILING_S:g} ms and {CEILING_OCTETS // 1024} KiB"
    )
    return int(slowest.seconds > CEILING_S or largest.octets > CEILING_OCTETS)


if __name__ == "__main__":
    sys.exit(main())
