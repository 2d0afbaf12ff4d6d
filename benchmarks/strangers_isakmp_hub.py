"""A gateway's IKEv1 in memory, with tunnels of each kind, and strangers that talk to it as far as anybody can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.strangers_hub import HERE, Hub, sent
from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.peer import Life, Peer
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v1 import keymat, offers, registry
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, build_isakmp, build_payloads, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.sa_payload import SaPayload, SaProposal
from ipsec_dp.ike.v1.wire import HEADER, ExchangeMode, HeaderFlag, Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v1.keymat import Skeyids
    from ipsec_dp.ike.v1.payloads import IsakmpPayload

EVERYTHING = ("aes128-aes256-sha256-sha384-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096",)
LIFE = Life(28_800.0)
NOBODY = bytes(8)


@cache
def _spoken(peer: Peer, mode: Literal["main", "aggressive"]) -> Peer:
    return replace(peer, version=1, mode=mode, ike_proposals=_proposals())


@cache
def _proposals() -> Any:
    return parse_ike(EVERYTHING)


@dataclass(frozen=True)
class Agreed:
    """What a stranger has after a key exchange: `iv`: of the next encrypted message of main mode."""

    cookies: tuple[bytes, bytes]
    suite: IkeSuite
    keys: Skeyids
    iv: bytes
    path: Path


class IsakmpHub(Hub):
    """A gateway whose tunnels all speak IKEv1. A stranger chooses proof by certificates, where he has the keys of the key exchange;
    with a shared key nothing that he encrypts can be read."""

    mode: Literal["main", "aggressive"] = "main"

    def _configured(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        return tuple(_spoken(peer, self.mode) for peer in peers)

    def _core(self) -> IkeVersions:
        return IkeVersions(self._environment(), self.peers)

    def with_keys(self, keyword: str = "ecp256", method: int = Method.ECDSA_P256) -> Agreed:
        """After messages 1 to 4, begun by the stranger."""
        suite, path = suite_of(keyword), self.path()
        begun, first = first_of(self, offer(keyword, method)), self.ask(path)
        cookies = begun[:8], first(begun)[8:16]
        key, nonce = dh.initiate(suite.group, self.random), self.random(32)
        answer = _read(first(clear(cookies, p.KePayload(key.public), p.NoncePayload(nonce))))
        ke, theirs = answer.get(p.KePayload), answer.get(p.NoncePayload)
        if ke is None or theirs is None:
            raise RuntimeError("no key exchange with the hub")
        shared = key.shared_secret(ke.data)
        return _agreed(cookies, suite, shared, (nonce, theirs.data), (key.public, ke.data), path)

    def ask(self, path: Path) -> Callable[[bytes], bytes]:
        """Sends the hub a message, and returns its one answer."""

        def asked(datagram: bytes) -> bytes:
            (answer,) = sent(self.core.receive(datagram, path, self.now))
            return answer

        return asked

    def called_until_4(self, tunnel: str) -> tuple[bytes, Path, Any]:
        """Our message 3 to a stranger who has answered message 1 in the peer's place; and what he chose."""
        begun, path = self.calls(tunnel)
        offered = _read(begun).get(SaPayload)
        if offered is None:
            raise RuntimeError("the hub offers nothing")
        (one,) = offered.proposals
        chosen = SaPayload((SaProposal(one.number, one.protocol, one.spi, one.transforms[:1]),))
        cookies = begun[:8], self.random(8)
        return self.ask(path)(clear(cookies, chosen)), path, chosen

    def called_until_6(self, tunnel: str) -> Agreed:
        """Our message 5 waits for an answer."""
        third, path, chosen = self.called_until_4(tunnel)
        choice = offers.phase1_accept(registry.suites_phase1(_proposals()), _method(chosen), chosen)
        asked = _read(third)
        ke, nonce = asked.get(p.KePayload), asked.get(p.NoncePayload)
        if ke is None or nonce is None:
            raise RuntimeError("the hub begins no key exchange")
        public, shared = dh.respond(choice.suite.group, ke.data, self.random)
        ours = self.random(32)
        cookies = third[:8], third[8:16]
        fifth = self.ask(path)(clear(cookies, p.KePayload(public), p.NoncePayload(ours)))
        made = _agreed(cookies, choice.suite, shared, (nonce.data, ours), (ke.data, public), path)
        return replace(made, iv=fifth[-keymat.BLOCK :])

    def up(self) -> tuple[tuple[bytes, bytes], Path]:
        """The cookies of an ISAKMP SA that is up, which somebody on the way has seen."""
        peer, self.now = self.peers[0], self.now + 1.0
        path = Path(HERE, Endpoint(peer.remotes[0], 500)) if peer.remotes else self.path()
        back = Path(path.remote, path.local)
        caller = IkeVersions(
            self._environment(),
            [replace(peer, tunnel="hub", remotes=(HERE.address,), local_id=peer.remote_id, remote_id=peer.local_id)],
        )
        waiting = sent(caller.initiate("hub", back, self.now))
        cookies = (NOBODY, NOBODY)
        for _ in range(4):
            answers = [one for datagram in waiting for one in sent(self.core.receive(datagram, path, self.now))]
            cookies = next(((one[:8], one[8:16]) for one in answers), cookies)
            waiting = [one for answer in answers for one in sent(caller.receive(answer, back, self.now))]
        return cookies, path


class AggressiveHub(IsakmpHub):
    """The same, whose tunnels all speak aggressive mode."""

    mode = "aggressive"


Pair = tuple[bytes, bytes]  # the initiator's, the responder's


def _agreed(cookies: Pair, suite: IkeSuite, shared: Any, nonces: Pair, publics: Pair, path: Path) -> Agreed:
    skeyid = keymat.skeyid_of_signatures(suite.prf, shared, nonces)
    keys = keymat.skeyids(suite, skeyid, shared, b"".join(cookies))
    return Agreed(cookies, suite, keys, keymat.first_iv(suite.prf, *publics), path)


@cache
def suite_of(keyword: str) -> IkeSuite:
    (suite,) = registry.suites_phase1(parse_ike([f"aes128-sha256-{keyword}"]))
    return suite


@cache
def offer(keyword: str = "ecp256", method: int = Method.ECDSA_P256) -> SaPayload:
    return offers.phase1_offer((suite_of(keyword),), method, LIFE)


def _method(chosen: SaPayload) -> int:
    (value,) = chosen.proposals[0].transforms[0].numbers()[3]
    return value or 0


def _read(datagram: bytes) -> Any:
    return parse_payloads(*parse_isakmp_header(datagram), datagram[HEADER:])


def header(cookies: tuple[bytes, bytes], exchange: int, flags: int = 0, number: int = 0) -> IsakmpHeader:
    return IsakmpHeader(*cookies, exchange, flags, number)


def clear(cookies: tuple[bytes, bytes], *payloads: IsakmpPayload, exchange: int = ExchangeMode.MAIN) -> bytes:
    return build_clear(header(cookies, exchange), payloads)


def first_of(hub: IsakmpHub, *payloads: IsakmpPayload) -> bytes:
    """A message 1."""
    return clear((hub.random(8), NOBODY), *payloads)


def sealed(made: Agreed, *payloads: IsakmpPayload, exchange: int = ExchangeMode.MAIN, number: int = 0) -> tuple[bytes, Path]:
    """Encrypted by the stranger, who has the keys."""
    first, plaintext = build_payloads(payloads)
    octets = keymat.encrypt(made.keys.cipher, made.iv, plaintext)
    return build_isakmp(header(made.cookies, exchange, HeaderFlag.ENCRYPTED, number), first, octets), made.path


def garbage(cookies: tuple[bytes, bytes], octets: int, exchange: int, number: int, random: Callable[[int], bytes]) -> bytes:
    """Encrypted by nobody: what is decrypted proves nothing."""
    return build_isakmp(header(cookies, exchange, HeaderFlag.ENCRYPTED, number), 8, random(octets // 16 * 16))
