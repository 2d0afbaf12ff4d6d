"""What somebody who has shown nothing yet may cost: every limit on what is not authenticated, in one table, and who counts it.

Whoever can send datagrams is a stranger, and his source address may be another's. A COOKIE that comes back shows that he receives
at his address (RFC 7296 §2.6, RFC 8019 §4), a message whose ICV holds under keys of ours that he was there for the key exchange.
Only AUTH shows who he is. `LIMITS` says what is bounded until then; nothing else in this package has a number of its own for it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.actions import NO_SPI, Event, Kind, Origin, Report
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from ipsec_dp.ike.actions import Action, Endpoint
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ipsec.addresses import Address


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one gateway. A network is an IPv4 address, or the 64 bits of an IPv6 address that one host may choose from."""

    datagrams_a_second: int = 50  # of one network that the data plane passes on: IKE on port 4500, unknown SPIs
    datagrams_at_once: int = 200
    begun_a_second: int = 50  # IKE_SA_INIT without a good cookie that the data plane passes on, in all; beyond, it asks for one
    others_a_second: int = 50  # messages of no IKE SA and unknown SPIs that it passes on, in all
    ikev1_begun_a_second: int = 25  # besides, messages 1 of IKEv1's main mode from one network where such a peer is configured
    ikev1_begun_at_once: int = 50
    ikev1_begun_a_second_in_all: int = 50
    ikev1_known_a_second: int = 200  # besides proven ones, messages of ISAKMP SAs that are up, in all; of one of them old_a_second
    proven_a_second: int = 200  # of one network, with a good cookie or the SPIs of an IKE SA that is begun
    proven_at_once: int = 400
    proven_a_second_in_all: int = 500
    old_a_second: int = 16  # authentic messages of one IKE SA that are not new: repeats, further fragments, recorded ones
    old_at_once: int = 64
    cookies_a_second: int = 25_000  # the data plane's own answers to requests on port 500, of networks that asked before
    cookies_a_second_on_nat_port: int = 4_000  # where they take time from ESP
    first_cookies_a_second: int = 100  # to whoever asks for the first time, at each port; in a flood he asks again
    asked_seconds: int = 8  # for which it is remembered at least
    half_open: int = 4000  # IKE SAs without AUTH, some 10 KB each; beyond, the oldest goes
    half_open_of_network: int = 256  # many hosts may stand behind one NAT
    half_open_reserved: int = 512  # besides, for peers whose configured address brought a cookie back
    half_open_seconds: float = 30.0  # from IKE_SA_INIT to IKE_AUTH
    cookie_above: int = 30  # half-open IKE SAs in all: from then on every request needs a cookie
    cookie_above_of_network: int = 5
    cookie_above_rate: float = 50.0  # requests a second without one, in all
    cookie_seconds: float = 60.0  # a secret's; the one before is still taken
    answers_a_second: float = 10.0  # to messages of no IKE SA here
    aggressive_a_second: float = 50.0  # IKEv1 aggressive modes that are answered in all: a key exchange, and perhaps a signature
    aggressive_of_network_a_second: float = 10.0  # of those; there is no cookie, so whoever forges a peer's address uses up its own
    further_a_second: float = 500.0  # additional key exchanges before AUTH, in all: as many as first ones with a good cookie
    further_of_network_a_second: float = 200.0
    waiting: int = 64  # messages that have come and are looked at when it is their turn
    ppks: int = 8  # that are compared for one IKE_INTERMEDIATE, and that we offer in ours
    proofs: int = 8  # shared keys, or sets of authorities, that one AUTH is tried with
    certificates: int = 6  # of one message
    certificate_octets: int = 8192  # of one
    chain_octets: int = 16_384  # of all certificates of a message
    chain: int = 5  # CA certificates between an end entity and a root
    extensions: int = 32  # of a certificate
    names: int = 100  # in a subjectAltName
    policies: int = 64  # that a certificate names, or maps
    constraints: int = 32  # subtrees of a nameConstraints extension: each is compared with each name of the chain
    rsa_bits: int = 8192  # the time of a verification grows with the square, and a chain has several
    exponent_bits: int = 64  # of an RSA key: it grows with these too
    name_attributes: int = 20  # of a distinguished name
    identity_octets: int = 1024  # longer than any name a person writes or a certificate holds
    identity_shown: int = 300  # characters of an identity that a person is shown
    authorities_named: int = 32  # in the IKE_SA_INIT response; where there are more it asks for a certificate of any
    init_octets: int = 4096  # of an IKE_SA_INIT message, which is kept until AUTH covers it
    payloads: int = 128  # of one message
    proposals: int = 64  # in one SA payload
    transforms: int = 512
    attributes: int = 64  # of transforms of one proposal, besides Key Length
    deletes: int = 1024  # SPIs in one DELETE
    config_attributes: int = 256  # in one CP payload
    fragments: int = 128  # of one message (RFC 7383 leaves 65,535)
    fragment_seconds: float = 30.0  # that an unfinished set of fragments is kept
    fragment_most: int = 9216  # octets of one: fragments are made to fit a path's MTU
    fragment_octets: int = 32_768  # of a message that is not whole yet
    fragments_of_network: int = 262_144  # octets of IKEv1's, which nothing protects, kept before anybody has proven who he is
    fragments_in_all: int = 4_194_304
    hints: int = 4  # unauthenticated refusals that are remembered of an attempt of ours
    rounds: int = 6  # of COOKIE and INVALID_KE_PAYLOAD answers that an attempt follows
    repeats_a_second: float = 4.0  # stored replies of one IKE SA, sent again
    events_a_second: float = 3.0  # lines of the log, in all; as many again about what comes from the addresses of peers
    events_at_once: float = 2.0  # of them; so ten in a second at the most, whatever comes
    event_seconds: float = 10.0  # between two about the same
    ikev1_event_seconds: float = 60.0
    trace_a_second: float = 50.0  # lines of `up --trace-ike` about messages that are not authentic
    texts: int = 1024  # things whose last line is remembered


LIMITS: Final = Limits()
_SECRET: Final = 32


class Allowance:
    """A token bucket: `rate` a second, as many at once, or `at_once`."""

    __slots__ = ("_at", "_at_once", "_left", "_rate")

    def __init__(self, rate: float, at_once: float | None = None) -> None:
        self._rate = rate
        self._at_once = self._left = rate if at_once is None else at_once
        self._at = 0.0

    @property
    def level(self) -> tuple[float, float]:
        """How much was left, and when that was looked at."""
        return self._left, self._at

    def resume(self, level: tuple[float, float]) -> None:
        """It goes on from the `level` of another."""
        self._left, self._at = min(level[0], self._at_once), level[1]

    def any_left(self, now: float) -> bool:
        """Whether `take` gives one now."""
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, self._at_once)
        self._at = now
        return self._left >= 1.0

    def take(self, now: float) -> bool:
        """One more; false when there is none left."""
        if not self.any_left(now):
            return False
        self._left -= 1.0
        return True


class KeyExchanges:
    """Those that are computed for whoever asks, since nothing can be asked of him first: so many in all, and of one network."""

    def __init__(
        self, in_all: float = LIMITS.aggressive_a_second, of_network: float = LIMITS.aggressive_of_network_a_second
    ) -> None:
        self._in_all = Allowance(in_all)
        self._rate = of_network
        self._of_network: dict[bytes, Allowance] = {}

    def take(self, address: Address, now: float) -> bool:
        """One more, for somebody there who may be anybody; false when there is none left."""
        if len(self._of_network) > LIMITS.half_open:
            self._of_network.clear()
        return self._of_network.setdefault(network_of(address), Allowance(self._rate)).take(now) and self._in_all.take(now)


class StrangersEvents:
    """Which events that strangers cause may be told: few about the same, and few in all."""

    def __init__(self) -> None:
        self._quiet_until: OrderedDict[Hashable, float] = OrderedDict()
        self._all = {
            origin: Allowance(LIMITS.events_a_second, LIMITS.events_at_once) for origin in (Origin.STRANGER, Origin.CLAIMED)
        }

    def may_tell(self, what: Hashable, now: float, every: float = LIMITS.event_seconds, origin: Origin = Origin.STRANGER) -> bool:
        """True when the last one about `what` is `every` seconds ago and there were not too many others; it is told now, then."""
        if now < self._quiet_until.get(what, now) or not self._all[origin].take(now):
            return False
        self._quiet_until[what] = now + every
        self._quiet_until.move_to_end(what)
        if len(self._quiet_until) > LIMITS.texts:
            self._quiet_until.popitem(last=False)
        return True

    def allowed(self, actions: Iterable[Action], now: float) -> list[Action]:
        """Without the events of strangers that there are too many of; each tunnel has its own for its peer's address."""

        def told(event: Event) -> bool:
            if event.origin in (Origin.OURS, Origin.PEER):
                return True
            if event.kind is Kind.NOTE:
                return False
            return self.may_tell((event.kind, event.tunnel if event.origin is Origin.CLAIMED else ""), now, origin=event.origin)

        return [one for one in actions if not isinstance(one, Report) or told(one.event)]

    def report(self, kind: Kind, text: str, now: float, every: float = LIMITS.event_seconds) -> list[Action]:
        """An event about a datagram of no IKE SA, if it may be told."""
        event = Event(kind, "", NO_SPI, NO_SPI, "", shown(text), origin=Origin.STRANGER)
        return [Report(event)] if self.may_tell((kind, ""), now, every) else []


class Cookies:
    """Makes cookies and knows its own again, without keeping any. Secrets follow from the time."""

    def __init__(self, rng: Rng) -> None:
        self.secret: Final = rng(_SECRET)  # the data plane makes the same cookies of it

    def make(self, nonce: bytes, spi_i: bytes, remote: Endpoint, now: float) -> bytes:
        """The cookie that a request with this nonce and SPI, from there, must bring back."""
        return self._cookie(self._period(now), nonce, spi_i, remote)

    def good(self, cookie: bytes, nonce: bytes, spi_i: bytes, remote: Endpoint, now: float) -> bool:
        """True when `cookie` is one of ours, made for the same within the last one or two periods."""
        period = self._period(now)
        return any(bytes_eq(self._cookie(one, nonce, spi_i, remote), cookie) for one in (period, period - 1))

    @staticmethod
    def _period(now: float) -> int:
        return int(now // LIMITS.cookie_seconds)

    def _cookie(self, period: int, nonce: bytes, spi_i: bytes, remote: Endpoint) -> bytes:
        secret = hmac.digest(self.secret, period.to_bytes(8, "big", signed=True), hashlib.sha256)
        parts = (nonce, spi_i, remote.address.packed)
        return hmac.digest(secret, b"".join(len(part).to_bytes(2, "big") + part for part in parts), hashlib.sha256)


S = TypeVar("S")


class HeldOctets(Generic[S]):
    """What is kept for those who have proven nothing: of each so much, of a network and of all no more than the limits."""

    def __init__(self) -> None:
        self._held: dict[S, tuple[bytes, int]] = {}
        self._of_network: dict[bytes, int] = {}
        self._all = 0

    def __len__(self) -> int:
        """Octets in all."""
        return self._all

    def hold(self, sa: S, address: Address, octets: int) -> bool:
        """So many from now on, instead of what it was; false, and nothing changes, where that is too many."""
        network, (before, had) = network_of(address), self._held.get(sa, (b"", 0))
        others = self._of_network.get(network, 0) - (had if before == network else 0)
        if others + octets > LIMITS.fragments_of_network or self._all - had + octets > LIMITS.fragments_in_all:
            return False
        self.discard(sa)
        self._held[sa] = network, octets
        self._of_network[network] = self._of_network.get(network, 0) + octets
        self._all += octets
        return True

    def discard(self, sa: S) -> None:
        """Nothing is kept for it any more, or it has proven who it is."""
        network, octets = self._held.pop(sa, (b"", 0))
        self._all -= octets
        left = self._of_network.pop(network, 0) - octets
        if left > 0:
            self._of_network[network] = left


def network_of(address: Address) -> bytes:
    """What one host can choose its source addresses from: an IPv4 address, the first 64 bits of an IPv6 address."""
    return address.packed[:8] if address.version == 6 else address.packed


class HalfOpenSas(Generic[S]):
    """IKE SAs that nobody has proven anything for, each counted for the network that it came from; oldest first."""

    def __init__(self) -> None:
        self._network_of: dict[S, bytes] = {}
        self._of_network: dict[bytes, dict[S, None]] = {}
        self._reserved: dict[S, None] = {}
        self._without_cookie = Allowance(LIMITS.cookie_above_rate)

    def __len__(self) -> int:
        return len(self._network_of)

    def __iter__(self) -> Iterator[S]:
        return iter(self._network_of)

    def add(self, sa: S, address: Address, *, reserved: bool = False) -> S | None:
        """One more; the one that has to go for it, if there is too little room. `reserved`: of a configured peer that brought a
        cookie back from its address, which strangers can take no room from."""
        network = network_of(address)
        same = self._of_network.setdefault(network, {})
        gone: S | None = None
        if reserved:
            if len(self._reserved) >= LIMITS.half_open_reserved:
                gone = next(iter(self._reserved))
            self._reserved[sa] = None
        elif len(same) >= LIMITS.half_open_of_network:
            gone = next((one for one in same if one not in self._reserved), None)
        elif len(self) - len(self._reserved) >= LIMITS.half_open:
            gone = next(one for one in self._network_of if one not in self._reserved)
        self._network_of[sa] = network
        same[sa] = None
        return gone

    def discard(self, sa: S) -> None:
        """It is authenticated or gone."""
        network = self._network_of.pop(sa, None)
        if network is None:
            return
        self._reserved.pop(sa, None)
        same = self._of_network[network]
        del same[sa]
        if not same:
            del self._of_network[network]

    def any_from(self, address: Address) -> bool:
        """True when somebody in the network of this address, or who says so, has begun one."""
        return network_of(address) in self._of_network

    def needs_cookie(self, address: Address, now: float) -> bool:
        """True when a request must show that its source address is real before it costs us anything. One that need not is
        counted."""
        if len(self) >= LIMITS.cookie_above or len(self._of_network.get(network_of(address), ())) >= LIMITS.cookie_above_of_network:
            return True
        return not self._without_cookie.take(now)
