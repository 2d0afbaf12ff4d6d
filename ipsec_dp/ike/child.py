"""CHILD_SAs: offered, answered, narrowed, rekeyed (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.9, §2.17).

TS payloads multiply (every local with every remote selector), a configuration lists pairs. What is negotiated may therefore be more
than what is configured; what is installed never is (`sa.permitted`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import delete, dh, keymat, life, proposal, ts
from ipsec_dp.ike.actions import Cause, InstallInbound, InstallOutbound, Kind, RemoveOutbound, SwitchOutbound
from ipsec_dp.ike.exchanges import Priority, Shape, Task
from ipsec_dp.ike.groups import groups_of, wanted_group
from ipsec_dp.ike.nat import uses_udp
from ipsec_dp.ike.payloads import (
    KeyExchangePayload,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from ipsec_dp.ike.sa import Child, ChildState, nonce, permitted, selector_pairs, suite_of
from ipsec_dp.ike.wire import ExchangeType, IkeError, NotifyType, ProtocolId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.message import Message
    from ipsec_dp.ike.peer import ProxyId
    from ipsec_dp.ike.sa import Received
    from ipsec_dp.ike.sa_payload import Proposal
    from ipsec_dp.ike.session import IkeSession

MAX_OFFERED: Final = 64  # selectors of a side in one exchange; further proxy IDs get exchanges of their own
MAX_PAIRS: Final = 256  # pairs of selectors that one CHILD_SA may have here
SPARE_CHILDREN: Final = 64  # CHILD_SAs of an IKE SA beyond four for each proxy ID: rekeys in progress, and what is dying
MAX_ROUNDS: Final = 3  # INVALID_KE_PAYLOAD answers that one request follows


class ChildError(IkeError):
    """A response that makes no CHILD_SA."""

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Agreed:
    """What an exchange gives a CHILD_SA besides its selectors: Ni and Nr, who sent the request, g^ir under PFS, the SA rekeyed."""

    nonces: tuple[bytes, bytes]
    initiator: bool
    secrets: tuple[bytearray, ...] = ()
    rekeys: Child | None = None


@dataclass(slots=True, eq=False)
class Offer:
    """Our half of an exchange that makes a CHILD_SA."""

    spi: int
    proposals: tuple[Proposal, ...]
    ts_local: tuple[ts.TrafficSelector, ...]
    ts_remote: tuple[ts.TrafficSelector, ...]
    pairs: tuple[ProxyId, ...]

    def payloads(self) -> list[Payload]:
        """SA, TSi, TSr of a request."""
        return [
            SecurityAssociation(self.proposals),
            TrafficSelectorsInitiator(self.ts_local),
            TrafficSelectorsResponder(self.ts_remote),
        ]


def make_offer(
    session: IkeSession, pairs: tuple[ProxyId, ...], packet: ProxyId | None, *, in_auth: bool, rekeys: Child | None = None
) -> Offer | None:
    """None when no SPI is free. `packet`: its selectors go first, so that narrowing keeps them (RFC 7296 §2.9)."""
    spi = session.host.environment.allocate_spi()
    if spi is None:
        return None
    ours = session.peer.esp_proposals
    proposals = proposal.with_spi(proposal.without_key_exchange(ours) if in_auth else ours, spi.to_bytes(4, "big"))
    if rekeys is not None:
        return Offer(spi, proposals, rekeys.ts_local, rekeys.ts_remote, pairs)
    offered = pairs if packet is None or session.single_pair else (packet, *pairs)
    local, remote = (tuple(dict.fromkeys(side))[:MAX_OFFERED] for side in zip(*offered, strict=True))
    return Offer(spi, proposals, local, remote, pairs)


class CreateChild(Task):
    """A CHILD_SA for `pairs`, or one that takes the place of `rekeys`. `rival`: what the peer made of `rekeys` in the meantime."""

    exchange = ExchangeType.CREATE_CHILD_SA

    def __init__(self, pairs: tuple[ProxyId, ...], packet: ProxyId | None = None, rekeys: Child | None = None) -> None:
        self.pairs, self.packet, self.rekeys = pairs, packet, rekeys
        self.shape = Shape.NEW_CHILD if rekeys is None else Shape.REKEY_CHILD
        self.priority = Priority.NEW_CHILD if rekeys is None else Priority.REKEY_CHILD
        self.rival: Child | None = None
        self.offer: Offer | None = None
        self.key: dh.KeyExchange | None = None
        self.group = None if rekeys is None else rekeys.suite.group
        self.rounds = 0
        self.nonce = b""

    def build(self, session: IkeSession, now: float) -> list[Payload] | None:
        if self.rekeys is not None and self.rekeys.state is not ChildState.UP:
            return None
        if self.rekeys is None and self.pairs and all(held(session, pair) for pair in self.pairs):
            return None
        self.offer = make_offer(session, self.pairs, self.packet, in_auth=False, rekeys=self.rekeys)
        if self.offer is None:
            session.report(Kind.CHILD_FAILED, "no SPI is free", cause=Cause.RESOURCES, again=True)
            life.retry_rekey(session, self.rekeys, now)
            return None
        rng = session.host.environment.rng
        self.nonce = nonce(rng)
        groups = groups_of(self.offer.proposals)
        group = self.group if self.group in groups else next(iter(groups), None)
        self.key = None if group is None else dh.initiate(group, rng)
        sa, tsi, tsr = self.offer.payloads()
        return [
            *(() if self.rekeys is None else (_rekey_notify(self.rekeys),)),
            sa,
            Nonce(self.nonce),
            *(() if self.key is None else (KeyExchangePayload(self.key.group.id, self.key.public),)),
            tsi,
            tsr,
        ]

    def answered(self, session: IkeSession, received: Received) -> None:
        message, offer = received.message, self.offer
        peer_nonce = message.get(Nonce)
        if offer is None or peer_nonce is None:
            return
        self.offer = None
        secrets = self._secret(message)
        agreed = Agreed((self.nonce, peer_nonce.data), initiator=True, secrets=secrets, rekeys=self.rekeys)
        new = _accept(session, offer, message, received.now, agreed)
        if new is None:
            self._failed_rekey(session, received.now)
        elif self.rekeys is None:
            switch(session, new)
            _told(session, new)
            cover(session, received.now)
        else:
            self._rekeyed(session, self.rekeys, new, received.now)

    def _secret(self, message: Message) -> tuple[bytearray, ...]:
        """g^ir when both sides sent KE. Raises KeyExchangeError."""
        ke = message.get(KeyExchangePayload)
        if ke is None or self.key is None:
            return ()
        if ke.group != self.key.group.id:
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        return (self.key.shared_secret(ke.data),)

    def _rekeyed(self, session: IkeSession, old: Child, new: Child, now: float) -> None:
        """Switch and delete the old one; or, when the peer rekeyed it too, what the lowest nonce says (RFC 7296 §2.8.1)."""
        rival = self.rival
        if rival is not None and rival.state is ChildState.UP and rival.number in session.children:
            if new.lowest_nonce < rival.lowest_nonce:  # ours is redundant, and ours to delete; the peer deletes the old one
                supersede(old, rival, now)
                delete.child(session, new, now)
                return
            rival.state = ChildState.REKEYED
            rival.soft = rival.switch_at = life.NEVER_DUE
        switch(session, new)
        _told(session, new)
        if old.state is ChildState.UP:
            old.successor = new
            delete.child(session, old, now)

    def refused(self, session: IkeSession, notify: Notify | None, text: str, now: float) -> None:
        offer = self.offer
        self.dropped(session)
        kind = None if notify is None else notify.notify_type
        if kind == NotifyType.INVALID_KE_PAYLOAD and notify is not None and self._other_group(session, notify):
            return
        if self.rekeys is not None:
            self._failed_rekey(session, now, kind)
        elif kind == NotifyType.TEMPORARY_FAILURE:
            life.later(session, self, now)
        elif kind in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED) and len(self.pairs) > 1:
            session.single_pair = True
            cover(session, now, every=True)
        else:
            report_refusal(session, offer, kind, text)
            cover(session, now)

    def _other_group(self, session: IkeSession, notify: Notify) -> bool:
        tried = None if self.key is None else self.key.group
        self.rounds += 1
        if tried is None or self.rounds > MAX_ROUNDS:
            return False
        self.group = wanted_group(notify, session.peer.esp_proposals, tried)
        return session.enqueue(self)

    def _failed_rekey(self, session: IkeSession, now: float, kind: int | None = None) -> None:
        old, rival = self.rekeys, self.rival
        if old is None or old.state is not ChildState.UP:
            return
        if rival is not None and rival.state is ChildState.UP and rival.number in session.children:
            supersede(old, rival, now)
        elif kind == NotifyType.CHILD_SA_NOT_FOUND:  # RFC 7296 §2.25: the peer has lost it, so must we
            delete.forget(session, old)
            session.report(Kind.CHILD_DOWN, "the peer no longer has it", cause=Cause.PEER, child=old.number, again=True)
            if session.peer.start == "start":
                session.enqueue(CreateChild(old.pairs))
        else:
            life.retry_rekey(session, old, now)

    def dropped(self, session: IkeSession) -> None:
        if self.offer is not None:
            session.release_spi(self.offer.spi)
            self.offer = None


def _rekey_notify(old: Child) -> Notify:
    """REKEY_SA names the SPI that we receive on (RFC 7296 §1.3.3)."""
    return Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.spi_in.to_bytes(4, "big"))


# --- as initiator ----------------------------------------------------------------------------------------------------


def accept_first(session: IkeSession, offer: Offer, message: Message, now: float) -> None:
    """The CHILD_SA part of an IKE_AUTH response; the IKE SA is up whatever it says (RFC 7296 §1.2)."""
    if message.get(SecurityAssociation) is not None:
        new = _accept(session, offer, message, now, Agreed(session.nonces, initiator=True))
        if new is not None:
            switch(session, new)
            _told(session, new)
        cover(session, now)
        return
    session.release_spi(offer.spi)
    kinds = [notify.notify_type for notify in message.all(Notify) if notify.is_error]
    kind = kinds[0] if kinds else None
    if kind in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED) and len(offer.pairs) > 1:
        session.single_pair = True
        cover(session, now, every=True)
        return
    report_refusal(session, offer, kind, "the peer made no CHILD_SA")
    session.attempted.update(offer.pairs)
    cover(session, now)


def _accept(session: IkeSession, offer: Offer, message: Message, now: float, agreed: Agreed) -> Child | None:
    """Install what the peer agreed to; when it is not what we offered, delete it again and say so."""
    sa, tsi, tsr = message.get(SecurityAssociation), message.get(TrafficSelectorsInitiator), message.get(TrafficSelectorsResponder)
    try:
        if sa is None or tsi is None or tsr is None:
            raise ChildError("the peer's answer lacks SA or TS payloads", Cause.SYNTAX)
        chosen = proposal.accept(offer.proposals, sa.proposals)
        suite = proposal.esp_suite(chosen)
        if (suite.group is None) != (not agreed.secrets):
            raise ChildError("key exchange and proposal in the peer's answer do not fit", Cause.KEY_EXCHANGE)
        local, remote = tsi.selectors, tsr.selectors
        if not ts.is_narrowing(offer.ts_local, local) or not ts.is_narrowing(offer.ts_remote, remote):
            text = ts.explain_mismatch((offer.ts_local, offer.ts_remote), (local, remote))
            raise ChildError(f"the peer's selectors are not within ours: {text}", Cause.SELECTORS)
        pairs = permitted(session.peer.proxy_ids, local, remote, MAX_PAIRS)
        if not pairs:
            raise ChildError(f"nothing that is configured is in {ts.text(local)} <-> {ts.text(remote)}", Cause.SELECTORS)
    except IkeError as error:
        cause = error.cause if isinstance(error, ChildError) else Cause.PROPOSAL
        session.report(Kind.CHILD_FAILED, str(error), cause=cause)
        session.release_spi(offer.spi)
        session.enqueue(delete.DeleteSpi(offer.spi))
        return None
    if agreed.rekeys is None and any(
        not any(known.local.covers(p.local) and known.remote.covers(p.remote) for known in pairs) for p in offer.pairs
    ):
        session.single_pair = len(offer.pairs) > 1 or session.single_pair
    return _install(session, (offer.spi, int.from_bytes(chosen.spi, "big")), suite, (local, remote), pairs, now, agreed)


def cover(session: IkeSession, now: float, *, every: bool = False) -> None:
    """Ask for proxy IDs that have no CHILD_SA yet, one exchange each: all of them where the tunnel is to be up as a whole, or where
    the peer did not take several at once. An IKE SA of ours for which the peer makes no CHILD_SA at all is given up."""
    if every or session.peer.start == "start":
        for proxy_id in session.peer.proxy_ids:
            if proxy_id not in session.attempted and not held(session, proxy_id):
                session.attempted.add(proxy_id)
                session.enqueue(CreateChild((proxy_id,)))
    if session.sa.initiator and not session.children and not session.queue and not session.timers.delayed:
        delete.ike(session, Cause.SELECTORS, "the peer makes no CHILD_SA", now, again=True)


def held(session: IkeSession, pair: ProxyId) -> bool:
    """True when a CHILD_SA that is there to stay holds all of `pair`."""
    return any(child.state is ChildState.UP and child.holds(pair) for child in session.children.values())


def report_refusal(session: IkeSession, offer: Offer | None, kind: int | None, text: str) -> None:
    """Why the peer made no CHILD_SA, as far as we can know: our side of it, and where to look."""
    ours = "" if offer is None else f"{ts.text(offer.ts_local)} <-> {ts.text(offer.ts_remote)}"
    if kind in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED):
        text = f"the peer accepts none of our selectors ({ours}): its proxy IDs must have something in common with ours, mirrored"
        session.report(Kind.CHILD_FAILED, text, cause=Cause.SELECTORS, again=True)
    elif kind == NotifyType.NO_PROPOSAL_CHOSEN:
        text = (
            f"the peer accepts none of our ESP proposals ({proposal.text(session.peer.esp_proposals)}); its log tells what it would"
        )
        session.report(Kind.CHILD_FAILED, text, cause=Cause.PROPOSAL, again=True)
    else:
        session.report(Kind.CHILD_FAILED, f"{text} ({ours})", cause=Cause.REFUSED, again=True)


# --- as responder ----------------------------------------------------------------------------------------------------


def answer_first(session: IkeSession, received: Received) -> list[Payload]:
    """SA, TSi, TSr of an IKE_AUTH response, or why there is no CHILD_SA."""
    return _answer(session, received, Agreed(session.nonces, initiator=False), in_auth=True)


def answer(session: IkeSession, received: Received) -> list[Payload]:
    """A CREATE_CHILD_SA request for a new CHILD_SA or a rekey of one."""
    message = received.message
    if session.task is not None and session.task.shape is Shape.REKEY_IKE:
        return [Notify(NotifyType.TEMPORARY_FAILURE)]  # RFC 7296 §2.25.2
    rekeys = None
    notify = message.notify(NotifyType.REKEY_SA)
    if notify is not None:
        rekeys = by_spi_out(session, notify)
        if rekeys is None or rekeys.state is ChildState.DYING:
            return [Notify(NotifyType.CHILD_SA_NOT_FOUND, b"", notify.protocol, notify.spi)]
        if rekeys.state is not ChildState.UP:
            return [Notify(NotifyType.TEMPORARY_FAILURE)]  # RFC 7296 §2.25.1: it is being closed
    if len(session.children) >= SPARE_CHILDREN + 4 * len(session.peer.proxy_ids):
        return [Notify(NotifyType.NO_ADDITIONAL_SAS)]
    own = message.get(Nonce)
    reply_nonce = nonce(session.host.environment.rng)
    agreed = Agreed((b"" if own is None else own.data, reply_nonce), initiator=False, rekeys=rekeys)
    return _answer(session, received, agreed, in_auth=False)


def by_spi_out(session: IkeSession, notify: Notify) -> Child | None:
    """The CHILD_SA whose receiving SPI at the peer is in `notify`; never one of another protocol or without an SPI."""
    if notify.protocol != ProtocolId.ESP or not notify.spi:
        return None
    return find_spi_out(session, notify.spi)


def find_spi_out(session: IkeSession, spi: bytes) -> Child | None:
    """The newest CHILD_SA that sends on `spi`."""
    number = int.from_bytes(spi, "big")
    return next((child for child in reversed(session.children.values()) if child.spi_out == number), None)


def _answer(session: IkeSession, received: Received, agreed: Agreed, *, in_auth: bool) -> list[Payload]:
    message, peer = received.message, session.peer
    sa, tsi, tsr = message.get(SecurityAssociation), message.get(TrafficSelectorsInitiator), message.get(TrafficSelectorsResponder)
    if sa is None or tsi is None or tsr is None:
        return [Notify(NotifyType.INVALID_SYNTAX)]
    chosen = (proposal.select_child if in_auth else proposal.select)(peer.esp_proposals, sa.proposals)
    if chosen is None or len(chosen.spi) != 4:
        text = proposal.explain_mismatch(peer.esp_proposals, sa.proposals)
        session.report(Kind.CHILD_FAILED, f"no ESP proposal in common: {text}", cause=Cause.PROPOSAL)
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite = proposal.esp_suite(chosen)
    pairs = _outermost_pairs(permitted(peer.proxy_ids, tsr.selectors, tsi.selectors, MAX_PAIRS))
    if not pairs:
        ours = ([p.local for p in peer.proxy_ids], [p.remote for p in peer.proxy_ids])
        text = ts.explain_mismatch(ours, (tsr.selectors, tsi.selectors))
        session.report(Kind.CHILD_FAILED, f"no proxy ID fits: {text}", cause=Cause.SELECTORS)
        return [Notify(NotifyType.TS_UNACCEPTABLE)]
    ke = message.get(KeyExchangePayload)
    extra: list[Payload] = [] if in_auth else [Nonce(agreed.nonces[1])]
    if suite.group is not None:
        if ke is None or ke.group != suite.group.id:
            return [Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
        public, secret = dh.respond(suite.group, ke.data, session.host.environment.rng)
        agreed = Agreed(agreed.nonces, initiator=False, secrets=(secret,), rekeys=agreed.rekeys)
        extra.append(KeyExchangePayload(suite.group.id, public))
    spi = session.host.environment.allocate_spi()
    if spi is None:
        return [Notify(NotifyType.NO_ADDITIONAL_SAS)]
    local, remote = outermost(pair.local for pair in pairs), outermost(pair.remote for pair in pairs)
    new = _install(session, (spi, int.from_bytes(chosen.spi, "big")), suite, (local, remote), pairs, received.now, agreed)
    _take_place(session, new, agreed.rekeys, received.now)
    return [
        SecurityAssociation(proposal.with_spi((chosen,), spi.to_bytes(4, "big"))),
        *extra,
        TrafficSelectorsInitiator(remote),
        TrafficSelectorsResponder(local),
    ]


def _take_place(session: IkeSession, new: Child, old: Child | None, now: float) -> None:
    """As responder: the initiator can receive on the new SA only once it has our reply, so a rekeyed one keeps sending until the
    initiator deletes it."""
    if old is None:
        session.defer(lambda: switch(session, new))
        session.defer(lambda: _told(session, new))
        return
    task = session.task
    if isinstance(task, CreateChild) and task.rekeys is old:
        task.rival = new  # decided when our own response comes (RFC 7296 §2.8.1)
    else:
        supersede(old, new, now)
    session.defer(lambda: _told(session, new))


def outermost(selectors: Iterable[ts.TrafficSelector]) -> tuple[ts.TrafficSelector, ...]:
    """Each once, and none that another holds, the first `MAX_OFFERED`."""
    each = list(dict.fromkeys(selectors))
    kept = [one for one in each if not any(other is not one and other.covers(one) for other in each)]
    return tuple(kept[:MAX_OFFERED])


def _outermost_pairs(pairs: Sequence[ProxyId]) -> tuple[ProxyId, ...]:
    return tuple(
        one
        for one in pairs
        if not any(other is not one and other.local.covers(one.local) and other.remote.covers(one.remote) for other in pairs)
    )


# --- both roles ------------------------------------------------------------------------------------------------------


def _install(
    session: IkeSession,
    spis: tuple[int, int],
    suite: proposal.EspSuite,
    selectors: tuple[tuple[ts.TrafficSelector, ...], tuple[ts.TrafficSelector, ...]],
    pairs: tuple[ProxyId, ...],
    now: float,
    agreed: Agreed,
) -> Child:
    """Derive keys and emit both installs. `spis`: ours and the peer's."""
    old, peer = agreed.rekeys, session.peer
    new = Child(
        session.host.next_child(),
        *spis,
        suite,
        agreed.initiator,
        *selectors,
        pairs,
        now,
        now if old is None else old.used,
        min(agreed.nonces),
        replaces=None if old is None else old.number,
    )
    session.children[new.number] = new
    limits = life.start_child(session, new, now)
    ike_suite, ike_keys = session.sa.suite, session.sa.keys
    if ike_suite is None or ike_keys is None:
        raise ChildError("no IKE keys", Cause.LOCAL)
    keys = keymat.child_keys(ike_suite.prf, ike_keys.sk_d, suite, *agreed.nonces, agreed.secrets)
    from_initiator, from_responder = keys.encr_i + keys.integ_i, keys.encr_r + keys.integ_r
    outgoing, incoming = (from_initiator, from_responder) if agreed.initiator else (from_responder, from_initiator)
    keys.wipe()
    for secret in agreed.secrets:
        secret[:] = bytes(len(secret))
    esp, shown = suite_of(suite), selector_pairs(pairs)
    udp, window = uses_udp(session), peer.replay_window
    session.emit(
        InstallInbound(peer.tunnel, new.number, new.spi_in, esp, incoming, shown, window, limits, session.path, udp, new.replaces)
    )
    session.emit(InstallOutbound(peer.tunnel, new.number, new.spi_out, esp, outgoing, shown, limits, session.path, udp))
    return new


def _told(session: IkeSession, new: Child) -> None:
    text = f"{new.spi_in:#x} in, {new.spi_out:#x} out, {new.suite}, {ts.text(new.ts_local)} <-> {ts.text(new.ts_remote)}"
    session.report(Kind.CHILD_UP if new.replaces is None else Kind.CHILD_REKEYED, text, child=new.number)


def supersede(old: Child, new: Child, now: float) -> None:
    """The peer's rekey stands: it deletes `old`, and then, or at the latest soon, we send by `new`."""
    if old.state is ChildState.UP:
        old.state, old.successor, old.soft = ChildState.REKEYED, new, life.NEVER_DUE
    new.switch_at = now + life.SWITCH_LOOK


def switch(session: IkeSession, new: Child) -> None:
    """Send by `new` from now on."""
    new.switch_at = life.NEVER_DUE
    if new.sending or new.number not in session.children:
        return
    new.sending = True
    session.emit(SwitchOutbound(session.peer.tunnel, new.number, new.replaces))
    old = None if new.replaces is None else session.children.get(new.replaces)
    if old is not None and old.sending:
        old.sending = False
        session.emit(RemoveOutbound(session.peer.tunnel, old.number))
