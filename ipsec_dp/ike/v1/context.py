"""One ISAKMP SA as its handlers see it, and all that there is with one peer: its ISAKMP SAs and its IPsec SAs.

In IKEv1 an IPsec SA does not belong to the ISAKMP SA under which it was made: phase 1 is renewed by another main mode, and phase 2
goes on as it is. So both hang on a `Peering`, and each exchange goes over the newest ISAKMP SA of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from ipsec_dp.ike.actions import Cause, Event, Kind, MovePath, Origin, Report, Send
from ipsec_dp.ike.errors import RetiredKeyError
from ipsec_dp.ike.lifetimes import MOVE_EVERY
from ipsec_dp.ike.nat import Nat, Said, said_of
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.pieces import message_room
from ipsec_dp.ike.strangers import LIMITS, Allowance
from ipsec_dp.ike.v1 import fragment, words
from ipsec_dp.ike.v1.deadlines import IsakmpDeadlines, Liveliness
from ipsec_dp.ike.v1.keymat import BLOCK, encrypt, exchange_iv, phase2_hash
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, build_isakmp, build_payloads
from ipsec_dp.ike.v1.payloads import HashPayload
from ipsec_dp.ike.v1.standing import Negotiation, PeersAbilities, Proven
from ipsec_dp.ike.v1.states import PAIRS, UNSHOWN, IpsecSaState, IsakmpState
from ipsec_dp.ike.v1.wire import ExchangeMode, HeaderFlag
from ipsec_dp.ike.wanted import Wanted
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.actions import Action, Path, Renewal
    from ipsec_dp.ike.authenticated import Account
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.keymat import Skeyids
    from ipsec_dp.ike.v1.payloads import IsakmpPayload, NotificationPayload
    from ipsec_dp.ike.v1.quick import QuickMode
    from ipsec_dp.ike.v1.sa import IpsecSa, IsakmpSa, Waiting
    from ipsec_dp.ipsec.addresses import Address


class IsakmpHost(Protocol):
    """What an ISAKMP SA asks of the gateway around it."""

    environment: Environment

    def emit(self, *actions: Action) -> None:
        """To be carried out, in this order."""

    def next_child(self) -> int:
        """A number for a pair of IPsec SAs, never given twice in any version."""

    def holds(self, number: int, peering: Peering) -> None:
        """A pair of IPsec SAs was made."""

    def count(self, counter: str) -> None:
        """One datagram led to nothing."""

    def retransmitted(self, tunnel: str) -> None:
        """A message of ours that is to be answered was sent once more."""

    def may_hold(self, context: IsakmpContext, address: Address, octets: int) -> bool:
        """Whether so many octets of fragments may be kept for it, before anybody has proven who he is."""

    def holds_nothing(self, context: IsakmpContext) -> None:
        """No fragments are kept for it any more."""

    def lacks(self, context: IsakmpContext) -> bool:
        """Whether its tunnel has nothing that is up."""

    def may_begin(self, address: Address, now: float) -> bool:
        """Whether a key exchange may be computed for somebody there who has not shown that he receives there."""

    def may_refuse(self, now: float) -> bool:
        """Whether somebody who has proven nothing may have a refusal in answer."""

    def expected(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        """Those of these peers whose tunnels are still there, as they are configured now."""

    def first_contact(self, context: IsakmpContext) -> bool:
        """Whether nothing is held of anybody at the other end."""

    def came_up(self, context: IsakmpContext, now: float) -> None:
        """Both sides have proven who they are."""

    def taken_by(self, peering: Peering, pair: ProxyId) -> str | None:
        """Why a peer that may call from anywhere gets no IPsec SA for `pair`: another identity has it. None: it may have it."""

    def call(self, peering: Peering, now: float) -> None:
        """Begin another main mode with the peer."""


MODES: Final = {ExchangeMode.MAIN: "main mode", ExchangeMode.AGGRESSIVE: "aggressive mode"}


class IsakmpContext:
    """One ISAKMP SA."""

    _state = IsakmpState.NEW

    def __init__(
        self, host: IsakmpHost, candidates: Candidates, sa: IsakmpSa, path: Path, now: float, number: int | None = None
    ) -> None:
        """`candidates`: who it may be; one when we initiate, and once main mode has shown who. `number`: of our last R-U-THERE."""
        sa.started = now
        self.host, self.sa, self.path = host, sa, path
        self.peer = candidates.first  # who it is, or the likeliest
        self.request_key = (sa.cookie_i, path.remote)  # by which a duplicate of message 1 finds its way
        self.negotiation = Negotiation(candidates)
        self.abilities, self.proven, self.deadlines = PeersAbilities(), Proven(), IsakmpDeadlines()
        self.liveliness = Liveliness(number=int.from_bytes(host.environment.rng(3), "big") if number is None else number)
        self.nat = Nat()
        self.waiting: Waiting | None = None  # a message of phase 1
        self.fragments: fragment.IsakmpFragments | None = None  # of the peer's
        self.repeats = Allowance(LIMITS.repeats_a_second)
        self.exchanges: dict[int, QuickMode] = {}  # by message ID
        self.seen: set[int] = set()  # message IDs of the peer's exchanges and of ours: each is used once
        self.peering: Peering | None = None
        self.replaced = False

    # ---- what it is

    @property
    def state(self) -> IsakmpState:
        return self._state

    def enter(self, state: IsakmpState) -> None:
        """It is in `state` from now on. RuntimeError, a fault of ours, where no step leads there."""
        if (self._state, state) not in PAIRS:
            raise RuntimeError(f"no ISAKMP SA goes from {self._state} to {state}")
        self._state = state

    @property
    def alive(self) -> bool:
        return self._state is not IsakmpState.CLOSED

    @property
    def established(self) -> bool:
        return self._state is IsakmpState.ESTABLISHED

    @property
    def aggressive(self) -> bool:
        return self.sa.exchange is ExchangeMode.AGGRESSIVE

    @property
    def mode(self) -> str:
        """By which it is made, in words."""
        return MODES[self.sa.exchange]

    @property
    def in_use(self) -> bool:
        """True while it is its tunnel's."""
        return self.alive and not self.replaced and (self.peering is None or not self.peering.withdrawn)

    @property
    def origin(self) -> Origin:
        """Whose doing it is that this SA is there."""
        if self.sa.initiator:
            return Origin.OURS
        if self.established or self.peering is not None:
            return Origin.PEER
        return Origin.CLAIMED if self.path.remote.address in self.peer.remotes else Origin.STRANGER

    @property
    def udp(self) -> bool:
        """True when ESP goes in UDP."""
        return self.nat.udp

    @property
    def says(self) -> Said:
        """To the peer about our address. A responder of main mode does not know yet which of its tunnels it is."""
        known = self.sa.initiator or self.aggressive
        return said_of((self.peer.encapsulation,) if known else self.negotiation.candidates.encapsulations)

    @property
    def keyed(self) -> tuple[IkeSuite, Skeyids]:
        """Its algorithms and keys. RuntimeError, a fault of ours, before there are any; RetiredKeyError when they are another's."""
        if self.sa.retired:
            raise RetiredKeyError("the keys of an ISAKMP SA that was carried away protect nothing more")
        if self.sa.suite is None or self.sa.keys is None:
            raise RuntimeError("an ISAKMP SA without keys")
        return self.sa.suite, self.sa.keys

    # ---- what a handler has done

    def report(
        self,
        kind: Kind,
        text: str,
        *,
        cause: Cause | None = None,
        child: int | None = None,
        again: bool = False,
        exchange: str = "",
        renewal: Renewal | None = None,
    ) -> None:
        if kind is Kind.CHILD_DOWN and child is not None and self.peering is not None:
            self.peering.wanted.told(child, text)
        spis = self.sa.cookie_i, self.sa.cookie_r
        event = Event(kind, self.peer.tunnel, *spis, exchange, shown(text), cause, child, again, origin=self.origin)
        self.host.emit(Report(replace(event, renewal=renewal, started=self.sa.started)))

    def header(self, exchange: ExchangeMode, message_id: int = 0, *, encrypted: bool = False) -> IsakmpHeader:
        flags = HeaderFlag.ENCRYPTED if encrypted else 0
        return IsakmpHeader(self.sa.cookie_i, self.sa.cookie_r, exchange, flags, message_id)

    @property
    def room(self) -> int:
        """Octets of the longest message that goes in one datagram."""
        return message_room(self.path.remote.address.version, marker=self.path.natt, datagram=self.peer.datagram)

    def datagrams(self, message: bytes) -> tuple[bytes, ...]:
        """What a message leaves in: fragments, where it does not fit and the peer takes them; one datagram, where its receiver may
        be somebody whom it does not concern."""
        takes = self.abilities.fragmentation and self.state not in UNSHOWN
        return fragment.cut(message, self.header(self.sa.exchange), self.room) if takes else (message,)

    def send(self, message: bytes) -> None:
        for count, datagram in enumerate(self.datagrams(message), 1):
            if datagram is not message:
                text = partial(words.fragment, self.header(self.sa.exchange), count, len(datagram))
                self.host.environment.trace.described(datagram, text, proven=self.established)
            self.host.emit(Send(datagram, self.path))

    def describe(self, datagram: bytes, header: IsakmpHeader, payloads: Sequence[IsakmpPayload], *, proven: bool) -> None:
        """To whoever wants a line for each message."""
        text = partial(words.line, header, payloads, len(datagram))
        self.host.environment.trace.described(datagram, text, proven=proven)

    def send_clear(self, payloads: Iterable[IsakmpPayload]) -> bytes:
        """A message of phase 1 that anybody may read; the datagram."""
        header, chain = self.header(self.sa.exchange), tuple(payloads)
        datagram = build_clear(header, chain)
        self.describe(datagram, header, chain, proven=False)
        self.send(datagram)
        return datagram

    def refuse_in_clear(self, header: IsakmpHeader, why: NotificationPayload) -> None:
        """To whoever has no keys with us."""
        datagram = build_clear(header, [why])
        self.describe(datagram, header, [why], proven=False)
        self.send(datagram)

    def send_chained(self, header: IsakmpHeader, iv: bytes, payloads: Iterable[IsakmpPayload]) -> tuple[bytes, bytes]:
        """An encrypted message; the datagram, and the IV of the next one."""
        chain = tuple(payloads)
        first, plaintext = build_payloads(chain)
        ciphertext = encrypt(self.keyed[1].cipher, iv, plaintext)
        datagram = build_isakmp(header, first, ciphertext)
        self.describe(datagram, header, chain, proven=True)
        self.send(datagram)
        return datagram, ciphertext[-BLOCK:]

    def send_informational(self, payloads: Iterable[IsakmpPayload]) -> None:
        """One message in an exchange of its own, which nobody acknowledges (RFC 2409 §5.7)."""
        (suite, keys), message_id = self.keyed, self.fresh_message_id()
        chain = tuple(payloads)
        _, octets = build_payloads(chain)
        proof = phase2_hash(suite.prf, keys.a, message_id.to_bytes(4, "big"), octets)
        header = self.header(ExchangeMode.INFORMATIONAL, message_id, encrypted=True)
        self.send_chained(header, exchange_iv(suite.prf, self.sa.last_block, message_id), (HashPayload(proof), *chain))

    def fresh_message_id(self) -> int:
        """One that no exchange of this ISAKMP SA has had, and none will have again."""
        while True:
            message_id = int.from_bytes(self.host.environment.rng(4), "big")
            if message_id and message_id not in self.seen:
                self.seen.add(message_id)
                return message_id

    def hint(self, text: str, cause: Cause | None = None) -> None:
        """Something unproven that may explain a failure."""
        known = [hint for hint, _ in self.negotiation.hints]
        if shown(text) not in known and len(known) < LIMITS.hints:
            self.negotiation.hints.append((shown(text), cause))
            self.report(Kind.HINT, text if self.established else f"{shown(text)} (not authenticated)", cause=cause)

    def heard(self, path: Path, now: float) -> None:
        """An authenticated message that was not here before: the peer lives, and where it is."""
        self.liveliness.heard = now
        self.liveliness.attempts = 0
        self.waiting = None  # phase 1 is done on its side, too
        self.deadlines.ask_at = inf
        if path.remote != self.path.remote:
            self.move(path, now)

    def follows(self, path: Path) -> bool:
        """Whether the peer may be at another address than that of one path, since a NAT is before it and none before us."""
        return self.nat.remote and not self.nat.local and path.natt == self.path.natt and path.remote != self.path.remote

    def move(self, path: Path, now: float) -> None:
        """Go after a peer behind a NAT to a new address, unless we are behind one ourselves."""
        if not self.follows(path) or now < self.liveliness.move_at or self.peering is None:
            return
        self.liveliness.move_at = now + MOVE_EVERY
        self.path = path
        self.host.emit(MovePath(self.peer.tunnel, tuple(self.peering.sas), path))
        self.report(Kind.PATH, f"the peer's address is now {path.remote}: its NAT changed the mapping")

    def close(self) -> None:
        """Nothing of it is left."""
        self.sa.wipe()
        self.waiting = self.fragments = None
        self.enter(IsakmpState.CLOSED)


class Peering:
    """All that there is with one peer of a tunnel, between two identities."""

    def __init__(self, host: IsakmpHost, peer: Peer, key: object) -> None:
        self.host, self.peer, self.key = host, peer, key
        self.sessions: list[IsakmpContext] = []  # oldest first
        self.sas: dict[int, IpsecSa] = {}  # by number, oldest first
        self.wanted = Wanted(peer.proxy_ids, lasting=peer.start == "start")
        self.account: Account | None = None
        self.seen: dict[int, tuple[ProxyId, ...]] = {}  # `up` as it was when somebody looked last
        self.withdrawn = False  # its tunnel is configured otherwise now
        self.calling = False  # another main mode of ours is under way
        self.wait_until = inf  # without an ISAKMP SA
        self.last: IsakmpContext | None = None  # which is closed
        self.over = False
        self.gone: list[IsakmpContext] = []  # ISAKMP SAs that were closed since somebody looked

    @property
    def current(self) -> IsakmpContext | None:
        """The ISAKMP SA that has every exchange; None: there is none at the moment."""
        up = [one for one in self.sessions if one.established]
        return next((one for one in reversed(up) if not one.replaced), up[-1] if up else None)

    @property
    def up(self) -> dict[int, tuple[ProxyId, ...]]:
        """The IPsec SAs that are there to stay, with what they carry."""
        return {number: (one.pair,) for number, one in self.sas.items() if one.state is IpsecSaState.UP}

    def of_pair(self, pair: ProxyId) -> list[IpsecSa]:
        """Those for a proxy ID, oldest first."""
        return [one for one in self.sas.values() if one.pair == pair]

    def by_spi_out(self, spi: int) -> IpsecSa | None:
        """The newest that sends on an SPI; peers choose them, so two may have one."""
        return next((one for one in reversed(self.sas.values()) if one.spi_out == spi), None)

    def configure(self, peer: Peer) -> None:
        self.peer = peer
        self.wanted.configure(peer.proxy_ids, lasting=peer.start == "start")
        for one in self.sessions:
            one.peer = peer
