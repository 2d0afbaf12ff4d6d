"""Every kind of message of somebody who has proven nothing, each payload at its largest, as rows of `benchmarks.strangers`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from benchmarks.strangers_hub import CA, SMALL, Anchor, Hub, authority, certificate, name, sent
from ipsec_dp.ike import auth, dh
from ipsec_dp.ike.identity import Identity, IdType
from ipsec_dp.ike.proposal import Proposal, ProtocolId, parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.fragment import seal_datagrams
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.peer_proof import keys_of
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import GROUPS, Transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v2.session import IkeSession

PAYLOADS_MOST = 120  # of one message; the parser takes 128
MESSAGE_MOST = 65_000  # octets
DN = "C=DE, O=Organisation, OU=Unit, CN=w1"


@dataclass(frozen=True)
class Kind:
    """`make`: one message for a hub, and the way that it comes. `says`: in an event that it must cause, so that what is measured is
    what it is called; empty: none is looked for. `tunnels`: the fewest that it needs; `hub`: of which version they are."""

    name: str
    make: Callable[[Any], tuple[bytes, Path]]
    says: str = ""
    tunnels: int = 1
    hub: Callable[[int, str], Hub] = Hub


# ---- payloads --------------------------------------------------------------------------------------------------------------------


def selectors(number: int, prefix: str, protocol: int) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_prefix(prefix.format(at), protocol) for at in range(number))


def transforms(proposals: int, each: int, attributes: int = 0) -> tuple[Proposal, ...]:
    """Proposals of transforms that nobody has."""
    unknown = tuple((attribute, bytes(4)) for attribute in range(1, 1 + attributes))
    made = tuple(Transform(1 + at % 5, 200 + at, None, unknown) for at in range(each))
    return tuple(Proposal(number, ProtocolId.IKE, b"", made) for number in range(1, 1 + proposals))


LARGEST: dict[str, tuple[p.Payload, ...]] = {
    "60 KB of vendor IDs": tuple(p.VendorId(bytes(500)) for _ in range(PAYLOADS_MOST)),
    "120 empty payloads": tuple(p.VendorId(b"") for _ in range(PAYLOADS_MOST)),
    "120 notifies": tuple(p.Notify(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20)) for _ in range(PAYLOADS_MOST)),
    "60 KB in a notify": (p.Notify(40_000, bytes(60_000)),),
    "60 KB of authorities": (p.CertificateRequest(4, bytes(60_000)),),
    "100 certificates": tuple(p.Certificate(4, bytes(600)) for _ in range(100)),
    "a DELETE of 1024 SPIs": (p.Delete(3, tuple(number.to_bytes(4, "big") for number in range(1024))),),
    "a configuration of 256 attributes": (p.Configuration(1, tuple((number, bytes(200)) for number in range(256))),),
    "60 KB of EAP": (p.Eap(2, 1, bytes(60_000)),),
    "IDr of 60 KB": (p.IdentificationResponder(IdType.KEY_ID, bytes(60_000)),),
}


def request(hub: Hub, *payloads: p.Payload) -> bytes:
    header = Header(hub.random(8), bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0)
    return build_message(Message(header, payloads))


def _init(hub: Hub, *payloads: p.Payload) -> tuple[bytes, Path]:
    return request(hub, *payloads), hub.path()


def _offer(*keywords: str) -> p.SecurityAssociation:
    return p.SecurityAssociation(parse_ike(keywords or SMALL, legacy=True))


def _ke(hub: Hub) -> p.KeyExchangePayload:
    return p.KeyExchangePayload(31, hub.random(32))


NONCE = p.Nonce(bytes(256))


# ---- IKE_SA_INIT requests, and what is no IKE ------------------------------------------------------------------------------------


def _of_group(hub: Hub, keyword: str, group: int, public: bytes) -> tuple[bytes, Path]:
    return _init(hub, _offer(f"aes128gcm16-prfsha256-{keyword}"), p.KeyExchangePayload(group, public), p.Nonce(hub.random(32)))


def _usual(hub: Hub, *payloads: p.Payload) -> tuple[bytes, Path]:
    return _init(hub, *payloads, _offer(), _ke(hub), NONCE)


def _offering(hub: Hub, proposals: tuple[Proposal, ...]) -> tuple[bytes, Path]:
    return _init(hub, p.SecurityAssociation(proposals), _ke(hub), NONCE)


def _wrong(number: int) -> tuple[Proposal, ...]:
    """Known transforms, in proposals none of which fits."""
    (one,) = parse_ike(["aes256-sha512-prfsha512-ecp521"])
    return tuple(Proposal(1 + at, ProtocolId.IKE, b"", one.transforms) for at in range(number))


def _demanded(hub: Hub) -> tuple[bytes, Path]:
    """Of an address with so many half-open IKE SAs that a COOKIE is demanded."""
    message, path = _usual(hub)
    for _ in range(6):
        hub.core.receive(request(hub, _offer(), _ke(hub), NONCE), path, hub.now)
    return message, path


def _returned(hub: Hub) -> tuple[bytes, Path]:
    message, path = _demanded(hub)
    (answer,) = sent(hub.core.receive(message, path, hub.now))
    cookie, request = parse_message(answer).payloads, parse_message(message)
    return build_message(replace(request, payloads=(*cookie, *request.payloads))), path


def _repeated(hub: Hub) -> tuple[bytes, Path]:
    message, path = _usual(hub)
    hub.core.receive(message, path, hub.now)
    return message, path


def _raw(hub: Hub, first: int, version: int, exchange: int, octets: int) -> tuple[bytes, Path]:
    head = hub.random(8) + bytes(8) + bytes([first, version, exchange, 8]) + bytes(4) + octets.to_bytes(4, "big")
    return head + bytes(octets - len(head)), hub.path()


def _inits() -> Iterator[Kind]:
    for group in GROUPS:
        key = dh.initiate(group, Random(2).randbytes)
        of = partial(_of_group, keyword=group.keyword, group=group.id)
        yield Kind(f"IKE_SA_INIT, {group.keyword}", partial(of, public=key.public))
        yield Kind(f"IKE_SA_INIT, {group.keyword}, unfit value", partial(of, public=bytes(group.public)))
    for text, payloads in LARGEST.items():
        yield Kind(f"IKE_SA_INIT, {text}", partial(_usual_with, payloads=payloads))
    for text, proposals in {
        "60 proposals, none fits": _wrong(60),
        "64 proposals of 8 transforms": transforms(64, 8),
        "2 proposals of 250 transforms": transforms(2, 250),
        "500 transforms of 8 attributes": transforms(4, 125, 8),
    }.items():
        yield Kind(f"IKE_SA_INIT, {text}", partial(_offering, proposals=proposals))
    everything = "aes128gcm16-prfsha256-x25519-modp4096"
    yield Kind(
        "IKE_SA_INIT, a KE value of 60 KB",
        lambda hub: _init(hub, _offer(), p.KeyExchangePayload(31, bytes(60_000)), NONCE),
    )
    yield Kind(
        "IKE_SA_INIT, a KE value of another group",
        lambda hub: _init(hub, _offer(everything), p.KeyExchangePayload(16, bytes(512)), NONCE),
    )
    yield Kind("IKE_SA_INIT, a cookie of somebody else's", lambda hub: _usual(hub, p.Notify(NotifyType.COOKIE, bytes(64))))
    yield Kind("IKE_SA_INIT, a cookie is demanded", _demanded)
    yield Kind("IKE_SA_INIT, a cookie comes back", _returned)
    yield Kind("IKE_SA_INIT, repeated", _repeated)
    yield Kind("IKE_SA_INIT, a payload missing", lambda hub: _init(hub, _offer(), NONCE))
    yield Kind("IKE_AUTH, of no IKE SA", lambda hub: _raw(hub, 46, 0x20, 35, 64))
    yield Kind("IKE_AUTH, of no IKE SA, 64 KB", lambda hub: _raw(hub, 46, 0x20, 35, MESSAGE_MOST))
    yield Kind("IKEv1", lambda hub: _raw(hub, 1, 0x10, 2, 28))
    yield Kind("IKEv3", lambda hub: _raw(hub, 33, 0x30, 34, 28))
    yield Kind("no IKE at all, 64 KB", lambda hub: (hub.random(MESSAGE_MOST), hub.path()))


def _usual_with(hub: Hub, payloads: tuple[p.Payload, ...]) -> tuple[bytes, Path]:
    return _usual(hub, *payloads)


# ---- certificates ----------------------------------------------------------------------------------------------------------------


def dn(octets: int, each: int) -> bytes:
    """A name of attributes of `each` octets."""
    values = (f"{number:0{each}}" for number in range(octets // (each + 15)))
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, value) for value in values]).public_bytes()


def _names(number: int) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(f"n{each}.example") for each in range(number)])


def _constraints(number: int, *others: str) -> x509.NameConstraints:
    return x509.NameConstraints([x509.DNSName(each) for each in (*(f"n{each}.example" for each in range(number)), *others)], None)


def _policies(number: int) -> x509.CertificatePolicies:
    kinds = (x509.ObjectIdentifier(f"1.3.6.1.{each}") for each in range(number))
    return x509.CertificatePolicies([x509.PolicyInformation(kind, None) for kind in kinds])


def _unknown(number: int) -> tuple[x509.ExtensionType, ...]:
    """So many extensions that nobody knows."""
    kinds = (x509.ObjectIdentifier(f"1.3.6.1.4.1.99999.{each}") for each in range(number))
    return tuple(x509.UnrecognizedExtension(kind, b"\x05\x00") for kind in kinds)


@cache
def _six(kind: str) -> tuple[tuple[p.Certificate, ...], Any]:
    """Six certificates that lead nowhere, or only after much looking, and the key of the first where somebody can have it."""
    keys: list[Any] = [ec.generate_private_key(ec.SECP521R1()) for _ in range(6)]
    bits = {"RSA": 8192, "RSA of 16384 bits": 16384, "long exponents": 3072}.get(kind)
    publics: list[Any] = [key.public_key() for key in keys]
    if bits is not None:
        exponent = (1 << 2999) | 1 if kind == "long exponents" else 65537
        publics = [rsa.RSAPublicNumbers(exponent, (1 << bits - 1) | (2 * number + 1)).public_key() for number in range(6)]
    wide = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{number:03}") for number in range(NAMES_OF.get(kind, 0))]
    subjects = [x509.Name([*wide, *name(f"c{number}")]) for number in range(7)]
    leaf, others = EXTENSIONS_OF.get(kind, ((_names(100),), ()))
    made = [certificate(subjects[0], publics[0], subjects[1], keys[1], *((one, False) for one in leaf))]
    made += [
        certificate(subjects[each], publics[each], subjects[each + 1], keys[(each + 1) % 6], CA, *((one, False) for one in others))
        for each in range(1, 6)
    ]
    return _payloads(made), None if bits else keys[0]


def _payloads(certificates: Iterable[x509.Certificate]) -> tuple[p.Certificate, ...]:
    return tuple(p.Certificate(4, one.public_bytes(Encoding.DER)) for one in certificates)


def borrowed(anchor: Anchor) -> tuple[p.Certificate, ...]:
    """Another peer's good certificates, which anybody may have seen: the largest key, many names, an authority with constraints."""
    root, signer = anchor
    between = ec.generate_private_key(ec.SECP521R1())
    sub = certificate(name("sub"), between.public_key(), name("root"), signer, CA, (_constraints(31, "example"), True))
    key = rsa.RSAPublicNumbers(65537, (1 << 8191) | 1).public_key()
    subject = x509.Name.from_rfc4514_string("CN=w1,OU=Unit,O=Organisation,C=DE")
    leaf = certificate(subject, key, name("sub"), between, (_names(100), False))
    return _payloads((leaf, sub, root))


Extensions = tuple[x509.ExtensionType, ...]
NAMES_OF = {"20 attributes": 19, "60 attributes": 60}
EXTENSIONS_OF: dict[str, tuple[Extensions, Extensions]] = {  # of the first certificate, of each other one
    "constraints": ((_names(100),), (_constraints(32),)),
    "450 names": ((_names(450),), ()),
    "policies": ((_policies(130),), (_policies(130),)),
    "31 extensions": (_unknown(31), _unknown(31)),
    "300 extensions": (_unknown(300), ()),
}


@cache
def _ours() -> tuple[p.Certificate, ...]:
    return borrowed(authority("root"))


CHAINS = {  # what is said of them
    "P-521": "does not lead to one of our",
    "constraints": "does not lead to one of our",
    "policies": "does not lead to one of our",
    "20 attributes": "does not lead to one of our",
    "31 extensions": "does not lead to one of our",
    "RSA": "signature",
    "60 attributes": "more than 20 attributes",
    "300 extensions": "more than 32 extensions",
    "450 names": "more than 100 names",
    "RSA of 16384 bits": "16384 bits",
    "long exponents": "whose exponent has 3000 bits",
}


def chain(kind: str) -> tuple[p.Certificate, ...]:
    """One of `CHAINS`, or what was "borrowed"."""
    return _ours() if kind == "borrowed" else _six(kind)[0]


def chain_key(kind: str) -> Any:
    """The key of its first certificate; None where nobody can have it."""
    return None if kind == "borrowed" else _six(kind)[1]


def signed(session: IkeSession, payloads: tuple[p.Payload, ...], key: Any) -> tuple[p.Payload, ...]:
    """The same with an AUTH payload that the holder of the key has made for this key exchange."""
    mine = next(one for one in payloads if isinstance(one, p.IdentificationInitiator | p.IdentificationResponder))
    keys, suite, called = keys_of(session)
    first = session.handshake.messages[0 if called else 1]
    octets = auth.signed_octets(
        suite.prf, first, session.handshake.nonces[1 if called else 0], keys.sk_pi if called else keys.sk_pr, mine.body()
    )
    proof = auth.sign(key, octets, session.abilities.hashes)
    return tuple(p.Authentication(proof.method, proof.data) if isinstance(one, p.Authentication) else one for one in payloads)


# ---- after a key exchange: sealed with the stranger's own keys -------------------------------------------------------------------

FQDN = (IdType.FQDN, b"w0.example")
NAME = (IdType.DER_ASN1_DN, Identity.from_text(DN).data)
PROOF = p.Authentication(2, bytes(32))
_SHA256_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
SIGNATURE = p.Authentication(14, bytes([len(_SHA256_RSA)]) + _SHA256_RSA + bytes(1023) + b"\2")
ESP = p.SecurityAssociation(tuple(Proposal(1, ProtocolId.ESP, b"\1\0\0\0", one.transforms) for one in parse_esp(["aes128gcm16"])))
FEW = (p.TrafficSelectorsInitiator(selectors(1, "10.{}.0.0/16", 6)), p.TrafficSelectorsResponder(selectors(1, "10.200.{}.0/24", 6)))
MOST = (
    p.TrafficSelectorsInitiator(selectors(255, "10.{}.0.0/16", 0)),
    p.TrafficSelectorsResponder(selectors(255, "10.200.{}.0/24", 0)),
)
IDENTITIES: dict[str, tuple[int, bytes]] = {
    "an address": (IdType.IPV4_ADDR, bytes(4)),
    "an IPv6 address": (IdType.IPV6_ADDR, bytes(16)),
    "a name of nobody's": (IdType.FQDN, b"nobody.example"),
    "a name of 1024 octets": (IdType.FQDN, b"a." * 511 + b"ab"),
    "an e-mail address of 1024 octets": (IdType.RFC822_ADDR, b"!" * 512 + b"@" + b"a." * 255 + b"a"),
    "a key ID of 1024 octets": (IdType.KEY_ID, b"\xff" * 1024),
    "a DN of 900 octets": (IdType.DER_ASN1_DN, dn(900, 60)),
    "a DN of 20 attributes": (IdType.DER_ASN1_DN, dn(900, 30)),
    "a DN of 60 attributes": (IdType.DER_ASN1_DN, dn(1000, 1)),
    "of no known type": (201, bytes(1024)),
}


def sealed(by: Sender, session: IkeSession, payloads: Iterable[p.Payload], room: int = MESSAGE_MOST, **how: int) -> Sequence[bytes]:
    """Datagrams of IKE_AUTH, or of `exchange`, from the stranger's end; `how` may also have `flags` and a message `number`."""
    flags, number = how.get("flags", session.sa.request_flags), how.get("number", 1)
    header = Header(session.sa.spi_i, session.sa.spi_r, how.get("exchange", ExchangeType.IKE_AUTH), flags, number)
    if session.sa.outgoing is None:
        raise RuntimeError("no keys")
    return seal_datagrams(session.sa.outgoing, header, list(payloads), by.random, room=room, fragment=True)


def _proving(hub: Hub, payloads: tuple[p.Payload, ...], **how: int) -> tuple[bytes, Path]:
    session, path = hub.half_open()
    return sealed(hub, session, payloads, **how)[0], path


def _last_of(hub: Hub, payloads: tuple[p.Payload, ...], room: int) -> tuple[bytes, Path]:
    """The last of the fragments; those before have come."""
    session, path = hub.half_open()
    *before, last = sealed(hub, session, payloads, room)
    for datagram in before:
        hub.core.receive(datagram, path, hub.now)
    return last, path


def _spoilt(hub: Hub) -> tuple[bytes, Path]:
    """64 KB whose ICV does not hold, with the SPIs and the message ID of a half-open IKE SA."""
    datagram, path = _proving(hub, (p.VendorId(bytes(60_000)),))
    return datagram[:-1] + bytes([datagram[-1] ^ 1]), path


def _certified(hub: Hub, kind: str, tunnel: str = "") -> tuple[bytes, Path]:
    """A request of the holder of such certificates; with `tunnel` his answer to ours."""
    session, path = hub.called(tunnel) if tunnel else hub.half_open()
    mine = (p.IdentificationResponder if tunnel else p.IdentificationInitiator)(*NAME)
    certificates, key = _six(kind)
    payloads: tuple[p.Payload, ...] = (mine, *certificates, SIGNATURE, ESP, *FEW)
    flags = session.sa.request_flags | (Flag.RESPONSE if tunnel else 0)
    return sealed(hub, session, payloads if key is None else signed(session, payloads, key), flags=flags)[0], path


def _auth(text: str, says: str, payloads: tuple[p.Payload, ...]) -> Kind:
    return Kind(f"IKE_AUTH, {text}", partial(_proving, payloads=payloads), says, tunnels=2)


def _auths() -> Iterator[Kind]:
    by_key = p.IdentificationInitiator(*FQDN)
    differ = "the shared keys differ"
    for text, identity in IDENTITIES.items():
        says = "more than 20 attributes" if text.endswith("60 attributes") else "the peer says it is"
        yield _auth(text, says, (p.IdentificationInitiator(*identity), PROOF, ESP, *FEW))
    yield _auth("a wrong shared key", differ, (by_key, PROOF, ESP, *FEW))
    yield _auth("255 × 255 selectors", differ, (by_key, PROOF, ESP, *MOST))
    yield _auth("64 proposals of 8 transforms", differ, (by_key, PROOF, p.SecurityAssociation(transforms(64, 8)), *FEW))
    yield _auth("without AUTH (EAP)", "EAP", (by_key, ESP, *FEW))
    for text, payloads in LARGEST.items():
        yield _auth(text, differ, (by_key, PROOF, ESP, *FEW, *payloads))
    by_name = p.IdentificationInitiator(*NAME)
    for kind, says in CHAINS.items():
        yield Kind(f"IKE_AUTH, six certificates, {kind}", partial(_certified, kind=kind), says, tunnels=2)
    yield _auth("another peer's certificates", "signature", (by_name, *_ours(), SIGNATURE, ESP, *FEW))
    yield _auth("100 certificates by name", "6 are the most", (by_name, *LARGEST["100 certificates"], SIGNATURE, ESP, *FEW))
    for exchange in (ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL, ExchangeType.IKE_INTERMEDIATE):
        yield Kind(f"{exchange.name} before AUTH", partial(_proving, payloads=(ESP, NONCE, *MOST), exchange=exchange))
    yield Kind("IKE_AUTH, 64 KB that do not open", _spoilt)
    junk = (p.VendorId(bytes(14_000)), p.VendorId(bytes(14_000)))
    yield Kind("IKE_AUTH, a fragment of 9 KB", lambda hub: _proving(hub, junk, room=9_200))
    yield Kind("IKE_AUTH, the last of 128 fragments", partial(_last_of, payloads=(by_key, PROOF, ESP, *MOST), room=185))


# ---- answers of a stranger to requests of ours -----------------------------------------------------------------------------------


def answer_to(hub: Hub, *payloads: p.Payload, spi_r: bytes = b"\1" * 8) -> tuple[bytes, Path]:
    request, path = hub.calls("w0")
    header = Header(request[:8], spi_r, ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0)
    return build_message(Message(header, payloads)), path


def _chosen(hub: Hub, keyword: str, group: int, public: bytes) -> tuple[bytes, Path]:
    """In the group that the stranger has us take."""
    request, path = hub.calls("w0")
    header = Header(request[:8], bytes(8), ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0)
    other = Message(header, (p.Notify(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big")),))
    hub.core.receive(build_message(other), path, hub.now)
    answer = replace(header, spi_r=hub.random(8))
    payloads = (_offer(f"aes128gcm16-prfsha256-{keyword}"), p.KeyExchangePayload(group, public), NONCE)
    return build_message(Message(answer, payloads)), path


def _wanted(hub: Hub, group: int) -> tuple[bytes, Path]:
    return answer_to(hub, p.Notify(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big")), spi_r=bytes(8))


def _answered(hub: Hub, tunnel: str, payloads: tuple[p.Payload, ...]) -> tuple[bytes, Path]:
    session, path = hub.called(tunnel)
    return sealed(hub, session, payloads, flags=session.sa.request_flags | Flag.RESPONSE)[0], path


def _answers() -> Iterator[Kind]:
    for group in GROUPS:
        if group.legacy:
            continue
        key = dh.initiate(group, Random(2).randbytes)
        chosen = partial(_chosen, keyword=group.keyword, group=group.id, public=key.public)
        yield Kind(f"answer to IKE_SA_INIT, {group.keyword}", chosen)
        if group.keyword != "x25519":
            yield Kind(f"answer to IKE_SA_INIT, {group.keyword} is wanted", partial(_wanted, group=group.id))
    refusal = p.Notify(NotifyType.NO_PROPOSAL_CHOSEN)
    yield Kind("answer to IKE_SA_INIT, a refusal", lambda hub: answer_to(hub, refusal), "accepts none of our IKE proposals")
    cookie = p.Notify(NotifyType.COOKIE, bytes(64))
    yield Kind("answer to IKE_SA_INIT, a cookie", lambda hub: answer_to(hub, cookie, spi_r=bytes(8)))
    by_key = p.IdentificationResponder(*FQDN)
    yield Kind(
        "answer to IKE_AUTH, a wrong shared key", partial(_answered, tunnel="w0", payloads=(by_key, PROOF, ESP, *MOST)), "differ"
    )
    for kind, says in CHAINS.items():
        yield Kind(f"answer to IKE_AUTH, six certificates, {kind}", partial(_certified, kind=kind, tunnel="w1"), says, tunnels=2)


# ---- the same without a hub, for gateways that are asked over a network ------------------------------------------------------


class Sender(Protocol):
    """Whoever makes a message: a source of octets."""

    def random(self, octets: int) -> bytes: ...


class _Nowhere:
    """In the place of a hub, for messages that ask nothing of one."""

    def __init__(self, by: Sender) -> None:
        self.random = by.random

    def path(self) -> None:
        """Whichever it is."""


def inits() -> Iterator[tuple[str, Callable[[Sender], bytes]]]:
    """What is no IKE_AUTH of an IKE SA that is there: the kind, who makes one."""

    def alone(by: Sender, make: Callable[[Any], tuple[bytes, Any]]) -> bytes:
        return make(_Nowhere(by))[0]

    for kind in _inits():
        if kind.make not in (_demanded, _returned, _repeated):
            yield kind.name, partial(alone, make=kind.make)


def auths(anchor: Anchor) -> Iterator[tuple[str, str, tuple[p.Payload, ...]]]:
    """IKE_AUTH requests whose proof is wrong: the kind, what the gateway says of it, the payloads. `anchor`: what it trusts."""
    by_name = p.IdentificationInitiator(*NAME)
    for kind in _auths():
        if isinstance(kind.make, partial) and "room" not in kind.make.keywords and "payloads" in kind.make.keywords:
            yield kind.name.removeprefix("IKE_AUTH, "), kind.says, kind.make.keywords["payloads"]
    for chain_of in CHAINS:
        yield f"six certificates, {chain_of}", "signature", (by_name, *chain(chain_of), SIGNATURE, ESP, *FEW)
    yield "another peer's certificates", "signature", (by_name, *borrowed(anchor), SIGNATURE, ESP, *FEW)


# ----


def kinds() -> Iterator[Kind]:
    """All of them."""
    yield from _inits()
    yield from _auths()
    yield from _answers()
