"""A gateway's IKE in memory, with tunnels of each kind, and strangers that talk to it; no socket, no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipsec_dp.ike.actions import Endpoint, Path, Send
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Trust
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.peer import Peer, SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.ike.actions import Action
    from ipsec_dp.ike.core import IkeVersions
    from ipsec_dp.ike.v2.session import IkeSession

NOW = 1000.0
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Endpoint(ip_address("192.0.2.1"), 500)
Anchor = tuple[x509.Certificate, Any]  # an authority with its key
STRANGERS = 0x0B000000  # the first address that they come from
ADDRESSES_OF_A_PEER = 64
EVERYTHING = ("aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096",)
SMALL = ("aes128gcm16-prfsha256-x25519",)


# ---- certificates ----------------------------------------------------------------------------------------------------------------


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: x509.Name, key: Any, issuer: x509.Name, signer: Any, *extensions: tuple[x509.ExtensionType, bool]
) -> x509.Certificate:
    """`extensions`: each with whether it is critical."""
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(TODAY - timedelta(days=1)).not_valid_after(TODAY + timedelta(days=3650))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


CA = (x509.BasicConstraints(ca=True, path_length=None), True)


@cache
def authority(subject: str) -> Anchor:
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate(name(subject), key.public_key(), name(subject), key, CA), key


@cache
def _credential() -> Credential:
    _, signer = authority("root")
    key = ec.generate_private_key(ec.SECP256R1())
    return Credential((certificate(name("hub"), key.public_key(), name("root"), signer),), key)


def _trusting(*authorities: str) -> SignatureAuth:
    return SignatureAuth(_credential(), Trust(tuple(authority(each)[0] for each in authorities)))


# ---- tunnels ---------------------------------------------------------------------------------------------------------------------


@cache
def proxy_ids(number: int) -> tuple[ProxyId, ...]:
    here = TrafficSelector.from_prefix("10.200.0.0/16")
    return tuple(ProxyId(here, TrafficSelector.from_prefix(f"10.{each}.0.0/16", 6)) for each in range(number))


def _peer(number: int, identity: str, auth: SharedKeyAuth | SignatureAuth, **others: Any) -> Peer:
    local, remote = Identity.from_text("hub.example"), Identity.from_text(identity)
    return Peer(tunnel=f"w{number}", auth=auth, **_proposals(), proxy_ids=proxy_ids(50), local_id=local, remote_id=remote, **others)


@cache
def _proposals() -> dict[str, Any]:
    return {"ike_proposals": parse_ike(EVERYTHING), "esp_proposals": parse_esp(["aes128gcm16"])}


def _shared(text: str) -> SharedKeyAuth:
    return SharedKeyAuth(PreSharedKey.from_text(text))


def _any(number: int) -> Peer:
    """It takes anybody: half by shared keys, half by certificates, with identities of every kind."""
    texts = ("w{}.example", "C=DE, O=Organisation, OU=Unit, CN=w{}", "w{}@example", "keyid:w{}")
    auth = _trusting("root") if number % 2 else _shared("a secret that nobody has")
    return _peer(number, texts[number % 4].format(number), auth)


def _named(number: int) -> Peer:
    """The peer's addresses are configured, and the stranger forges them; of two tunnels each they are the same."""
    first = STRANGERS + number // 2 * ADDRESSES_OF_A_PEER
    remotes = tuple(ip_address(first + each) for each in range(ADDRESSES_OF_A_PEER))
    return _peer(number, *_same(number), remotes=remotes)


def _alike(number: int) -> Peer:
    """All expect the same identity, each with another key, or another set of authorities."""
    identity, _ = _same(number)
    return _peer(number, identity, _trusting("root", f"root {number}") if number % 2 else _shared(f"secret {number}"))


def _several(number: int) -> Peer:
    """Those with certificates have an authority each."""
    auth = _trusting("root" if number == 1 else f"root {number}") if number % 2 else _shared(f"secret {number}")
    return _peer(number, "C=DE, O=Organisation, OU=Unit, CN=w1" if number == 1 else f"w{number}.example", auth)


def _same(number: int) -> tuple[str, SharedKeyAuth | SignatureAuth]:
    if number % 2:
        return "C=DE, O=Organisation, OU=Unit, CN=w1", _trusting("root")
    return "w0.example", _shared("a secret that nobody has")


KINDS: dict[str, Callable[[int], Peer]] = {
    "any": _any,
    "named": _named,
    "of one identity": _alike,
    "an authority each": _several,
}


@cache
def _peers(tunnels: int, kind: str) -> tuple[Peer, ...]:
    return tuple(KINDS[kind](number) for number in range(tunnels))


class Hub:
    """A gateway with `tunnels` of a kind, and strangers that each come from another address."""

    def __init__(self, tunnels: int, kind: str = "any") -> None:
        self._rng = Random(1)
        self._addresses = count(STRANGERS)
        self.peers = self._configured(_peers(tunnels, kind))
        self.core: Any = self._core()
        self.now = NOW

    def _configured(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        return peers

    def _core(self) -> IkeManager | IkeVersions:
        return IkeManager(self._environment(), self.peers)

    def _environment(self) -> Environment:
        spis = count(0x1000)
        return Environment(self._rng.randbytes, lambda _: next(spis), lambda _: TODAY)

    def random(self, octets: int) -> bytes:
        return self._rng.randbytes(octets)

    def path(self) -> Path:
        return Path(HERE, Endpoint(ip_address(next(self._addresses)), 500))

    def _stranger(self, *remotes: Any) -> IkeManager:
        peer = Peer(
            tunnel="hub",
            auth=_shared("guessed"),
            ike_proposals=parse_ike(SMALL),
            esp_proposals=parse_esp(["aes128gcm16"]),
            proxy_ids=proxy_ids(1),
            remotes=remotes,
        )
        return IkeManager(self._environment(), [peer])

    def half_open(self) -> tuple[IkeSession, Path]:
        """A stranger who has made a key exchange with us, and his end of it."""
        caller, path = self._stranger(HERE.address), self.path()
        back = _back(path)
        (request,) = sent(caller.initiate("hub", back, self.now))
        self.now += 1.0  # fewer than need a cookie, and time goes on
        for _ in range(2):  # the second time with the cookie, if one is wanted
            answers = sent(self.core.receive(request, path, self.now))
            again = [datagram for answer in answers for datagram in sent(caller.receive(answer, back, self.now))]
            (session,) = caller.sessions()
            if session.sa.outgoing is not None:
                return session, path
            (request,) = again
        raise RuntimeError("no key exchange with the hub")

    def calls(self, tunnel: str) -> tuple[bytes, Path]:
        """Our IKE_SA_INIT request, which the stranger has seen, and the way that its answer comes."""
        self.core.leave(tunnel, self.now)
        path = self.path()
        self.now += 1.0
        (request,) = sent(self.core.initiate(tunnel, path, self.now))
        return request, path

    def called(self, tunnel: str) -> tuple[IkeSession, Path]:
        """A stranger who has answered our IKE_SA_INIT in the peer's place, and his end of it: our IKE_AUTH waits for an answer."""
        request, path = self.calls(tunnel)
        answerer, back = self._stranger(), _back(path)
        for answer in sent(answerer.receive(request, back, self.now)):
            self.core.receive(answer, path, self.now)
        (session,) = answerer.sessions()
        return session, path


def sent(actions: Iterable[Action]) -> list[bytes]:
    return [one.datagram for one in actions if isinstance(one, Send)]


def _back(path: Path) -> Path:
    return Path(path.remote, path.local)
