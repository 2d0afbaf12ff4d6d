"""Rekeying an IKE SA: a new one takes all CHILD_SAs over, then the old one is deleted (RFC 7296 §1.3.2, §2.8, §2.18, §2.25.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, lifetimes, negotiation, suites
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.v2 import child_create, delete, followup, keymat, liveness, reauth, refusals, replacement
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.groups import groups_of, wanted_group
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Nonce, Notify, Payload, SecurityAssociation
from ipsec_dp.ike.v2.sa import IkeSa, State, nonce, nonzero_spi
from ipsec_dp.ike.v2.series import TheirSeries
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import ReceivedMessage

MAX_ROUNDS: Final = 3  # INVALID_KE_PAYLOAD answers that one request follows
AWAIT_DELETE: Final = 60.0  # seconds an SA that was replaced waits for the peer's DELETE


@dataclass(frozen=True, slots=True)
class IkeAgreement:
    """What CREATE_CHILD_SA has brought of the new IKE SA: `spi` is the peer's, `nonces` are Ni and Nr."""

    suite: IkeSuite
    spi: bytes
    nonces: tuple[bytes, bytes]


class IkeRekey(followup.SerialTask):
    """Our request for another IKE SA in place of this one. `rival`: what the peer made in the meantime.

    It offers the suite in use alone, and all that is configured only to a peer that no longer takes it: some derive the new keys by
    the PRF of the old IKE SA (against RFC 7296 §2.18), so that one with another PRF would be dead from its first message.
    """

    shape = Shape.REKEY_IKE
    priority = Priority.REKEY_IKE

    def __init__(self) -> None:
        self.rival: Context | None = None
        self.offer: tuple[Proposal, ...] = ()
        self.any_suite = False
        self.rounds = 0
        self.spi = self.nonce = b""
        self.key: dh.KeyExchange | None = None
        self.agreed: IkeAgreement | None = None

    def build(self, context: Context, now: float) -> list[Payload] | None:
        rng, suite, ours = context.host.environment.rng, context.sa.suite, context.peer.ike_proposals
        if self.series is not None:
            return self.series.ask(rng)
        if followup.awaited(context) is not None:
            context.deadlines.soft = now + lifetimes.SWITCH_LOOK
            return None
        kept = () if suite is None or self.any_suite else negotiation.keeping(suite, ours)
        self.spi, self.nonce = nonzero_spi(rng), nonce(rng)
        self.offer = negotiation.with_spi(kept or negotiation.no_weaker(suite, ours), self.spi)
        groups = groups_of(self.offer)
        current = None if suite is None else suite.group
        wanted = self.key.group if self.key is not None else current
        self.key = dh.initiate(wanted if wanted in groups else groups[0], rng)
        return [
            SecurityAssociation(self.offer),
            Nonce(self.nonce),
            KeyExchangePayload(self.key.group.id, self.key.public),
        ]

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        now = received.now
        if self.series is not None:
            if not self.series.take(received.message):
                self.go_on(context, now)
                return
            secrets = tuple(self.series.secrets)
        else:
            secret = self._first(received.message)
            if secret is None or self.agreed is None:
                return
            if self.agreed.suite.additional:
                self.begin(self.agreed.suite, secret, received.message)
                if not self._has_lost(context, now):
                    self.go_on(context, now)
                return
            secrets = (secret,)
        if self.agreed is None:
            return
        new_sa = IkeSa(initiator=True, spi_i=self.spi, spi_r=self.agreed.spi)
        new = _successor(context, new_sa, self.agreed, secrets, now)
        self.leave_off()
        self._settle(context, new, now)

    def _first(self, message: Message) -> bytearray | None:
        """What CREATE_CHILD_SA agreed on is in `agreed`; the shared secret of its key exchange."""
        sa, ke, peer_nonce = message.get(SecurityAssociation), message.get(KeyExchangePayload), message.get(Nonce)
        if sa is None or ke is None or peer_nonce is None or self.key is None:
            return None
        chosen = negotiation.accept(self.offer, sa.proposals)
        suite = suites.ike_suite(chosen)
        if ke.group != self.key.group.id or suite.group.id != ke.group or not any(chosen.spi):
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        self.agreed = IkeAgreement(suite, chosen.spi, (self.nonce, peer_nonce.data))
        return self.key.shared_secret(ke.data)

    def _has_lost(self, context: Context, now: float) -> bool:
        """Whose series goes on where the peer rekeys too: by the lowest nonce, before anything is made (RFC 9370 §2.2.4)."""
        rival, lowest = self.rival, self._rivals_nonce(context)
        if lowest is None or self.agreed is None or min(self.agreed.nonces) > lowest:
            followup.goes_no_further(context)
            return False
        self.leave_off()
        if rival is not None and rival.alive:
            hand_over(context, rival, now)
            _await_delete(context, now)
        return True

    def _rivals_nonce(self, context: Context) -> bytes | None:
        """The lowest one of the exchange by which the peer rekeys at the same time; None: it does not."""
        if self.rival is not None and self.rival.alive:
            return self.rival.sa.lowest_nonce
        return followup.lowest_nonce(context)

    def _settle(self, context: Context, new: Context, now: float) -> None:
        """Ours is made: it takes over, unless the peer's is to (RFC 7296 §2.8.1)."""
        rival, lowest = self.rival, self._rivals_nonce(context)
        if (
            lowest is not None and new.sa.lowest_nonce < lowest
        ):  # ours is redundant, and ours to delete; the peer deletes the old one
            if rival is not None and rival.alive:
                hand_over(context, rival, now)
                _await_delete(context, now)
            new.succession.handed_over = True  # nothing is on it
            new.enter(State.ESTABLISHED)
            delete.ike(new, Cause.REPLACED, "the peer's rekey stands", now)
            new.send_next(now)
            context.emit(*new.take())
            return
        followup.goes_no_further(context)
        hand_over(context, new, now)
        if rival is not None and rival.alive:
            _await_delete(rival, now)
        delete.ike(context, Cause.REPLACED, "it was rekeyed", now)

    def refused(self, context: Context, notify: Notify | None, text: str, now: float) -> None:
        self.leave_off()
        kind = None if notify is None else notify.notify_type
        if self.may_begin_again(notify):
            context.enqueue(self)
            return
        if kind == NotifyType.NO_PROPOSAL_CHOSEN and not self.any_suite:
            self.any_suite = True
            context.enqueue(self)
            return
        if notify is not None and kind == NotifyType.INVALID_KE_PAYLOAD and self.key is not None:
            self.rounds += 1
            if self.rounds <= MAX_ROUNDS:
                group = wanted_group(notify, context.peer.ike_proposals, self.key.group, "ike.proposals")
                self.key, self.any_suite = dh.initiate(group, context.host.environment.rng), True
                context.enqueue(self)
                return
        if self.rival is not None and self.rival.alive:
            hand_over(context, self.rival, now)
            _await_delete(context, now)
            return
        context.deadlines.retry_rekey(now, context.host.environment.rng)
        if followup.awaited(context) is not None:  # the peer is at it
            return
        said = f"the IKE SA is not rekeyed yet: {text}{refusals.instead(kind)}"
        context.report(Kind.WARNING, said, cause=Cause.REFUSED, renewal="ours")
        refusals.call_beside(context, kind, now)

    def unusable(self, context: Context, error: IkeError, now: float) -> None:
        """To the peer another one stands in its place, with the CHILD_SAs on it, and we have no keys for that: start over (RFC 7296
        §2.21.3), beside it where we may call, so that nothing is lost meanwhile."""
        self.leave_off()
        if (self.rival is not None and self.rival.alive) or not reauth.may_call(context):
            super().unusable(context, error, now)
            return
        text = f"the peer's answer to the rekey of the IKE SA cannot be used: {error}; a new IKE SA is made instead"
        context.report(Kind.WARNING, text, cause=Cause.SYNTAX, renewal="ours")
        context.deadlines.reauth_at = min(context.deadlines.reauth_at, now)

    def dropped(self, context: Context) -> None:
        """The old one ends while the peer's new one stands: that one has taken over."""
        self.leave_off()
        if self.rival is not None and self.rival.alive:
            hand_over(context, self.rival, self.rival.sa.established_at)


def rekey(context: Context, now: float) -> None:
    """Rekey the IKE SA when our turn comes, unless the peer is at it."""
    if followup.awaited(context) is not None:
        context.deadlines.soft = now + lifetimes.SWITCH_LOOK
    elif not any(isinstance(task, IkeRekey) for task in context.pending(Priority.REKEY_IKE)):
        context.enqueue(IkeRekey())


def not_now(context: Context, received: ReceivedMessage) -> list[Payload]:
    """A request for an SA on an IKE SA that is on its way out (RFC 7296 §2.25.2)."""
    del context, received
    return [Notify(NotifyType.TEMPORARY_FAILURE)]


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """The peer rekeys the IKE SA."""
    message, now = received.message, received.now
    if _is_busy(context) or any(series.rekeys is not None for series in context.series.values()):
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    if context.withdrawn or not context.host.has_room(context):  # it leaves those that it has rekeyed
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    sa, ke, peer_nonce = message.get(SecurityAssociation), message.get(KeyExchangePayload), message.get(Nonce)
    if sa is None or ke is None or peer_nonce is None:
        return [Notify(NotifyType.INVALID_SYNTAX)]
    offered = [one for one in sa.proposals if one.spi]
    ours = negotiation.no_weaker(context.sa.suite, context.peer.ike_proposals)
    chosen = negotiation.select_keeping(context.sa.suite, ours, offered)
    if chosen is None:
        text = negotiation.explain_mismatch(ours, sa.proposals)
        context.report(Kind.WARNING, f"rekey refused, no IKE proposal in common: {text}", cause=Cause.PROPOSAL, renewal="peer")
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite = suites.ike_suite(chosen)
    if ke.group != suite.group.id:
        return [Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
    rng = context.host.environment.rng
    public, secret = dh.respond(suite.group, ke.data, rng)
    own_nonce, spi = nonce(rng), nonzero_spi(rng)
    agreed = IkeAgreement(suite, chosen.spi, (peer_nonce.data, own_nonce))
    payloads: list[Payload] = [
        SecurityAssociation(negotiation.with_spi((chosen,), spi)),
        Nonce(own_nonce),
        KeyExchangePayload(suite.group.id, public),
    ]
    if suite.additional:
        return [*payloads, _await_rounds(context, agreed, spi, secret, now)]
    _made_by_peer(context, agreed, spi, (secret,), now)
    return payloads


@dataclass(frozen=True, slots=True)
class AwaitedIkeSa:
    """An IKE SA that the peer's series is for. `spi`: ours."""

    agreed: IkeAgreement
    spi: bytes

    def finish(self, context: Context, secrets: tuple[bytearray, ...], received: ReceivedMessage) -> list[Payload]:
        if _is_busy(context) or not context.host.has_room(context):
            return [Notify(NotifyType.TEMPORARY_FAILURE)]
        _made_by_peer(context, self.agreed, self.spi, secrets, received.now)
        return []

    def release(self, context: Context) -> None:
        """Nothing was."""


def _is_busy(context: Context) -> bool:
    """True when a request of ours must be over first (RFC 7296 §2.25.2, RFC 9370 §2.2.4)."""
    task = context.task
    ours = isinstance(task, IkeRekey) and (task.rival is not None or task.series is not None)
    return ours or isinstance(task, child_create.ChildCreate | delete.ChildDelete)


def _await_rounds(context: Context, agreed: IkeAgreement, spi: bytes, secret: bytearray, now: float) -> Payload:
    """The additional key exchanges come first (`followup`). `spi`: ours of the new one."""
    methods = followup.methods_of(agreed.suite)
    series = TheirSeries(methods, [secret], agreed.nonces, AwaitedIkeSa(agreed, spi), of_ike=True)
    return followup.begin(context, series, now)


def _made_by_peer(context: Context, agreed: IkeAgreement, spi: bytes, secrets: tuple[bytearray, ...], now: float) -> None:
    """The last key exchange is answered: the new one takes over once that answer has left, or when it is decided that it does."""
    new_sa = IkeSa(initiator=False, spi_i=agreed.spi, spi_r=spi)
    new = _successor(context, new_sa, agreed, secrets, now)
    if isinstance(context.task, IkeRekey):
        context.task.rival = new  # decided when our own response comes
    else:
        context.defer(lambda: hand_over(context, new, now))
        context.defer(lambda: _await_delete(context, now))


def _successor(context: Context, sa: IkeSa, agreed: IkeAgreement, secrets: tuple[bytearray, ...], now: float) -> Context:
    """The new IKE SA, keys and all, with nothing on it yet (RFC 7296 §2.18)."""
    old = context.sa
    if old.suite is None or old.keys is None:
        raise IkeError("no keys yet")
    suite, nonces = agreed.suite, agreed.nonces
    seed = keymat.next_skeyseed(old.suite.prf, old.keys.sk_d, *nonces, secrets)
    sa.install(suite, keymat.ike_keys(suite, seed, *nonces, sa.spi_i, sa.spi_r))
    context.host.environment.interference.keyed(sa)
    for used in (seed, *secrets):
        used[:] = bytes(len(used))
    new = context.host.spawn(context.handshake.candidates, sa, context.path, now)
    new.enter(State.PROVISIONAL)  # until it is decided that this is the one
    sa.established_at, sa.lowest_nonce = now, min(nonces)
    sa.post_quantum = old.post_quantum.rekeyed(sa.suite or old.suite)
    new.ends = replace(context.ends, initial_contact=False)
    new.nat, new.abilities = context.nat, context.abilities
    new.start_deadlines(now)
    new.deadlines.reauth_at, new.deadlines.proof_until = context.deadlines.reauth_at, context.deadlines.proof_until
    new.deadlines.proof_at = context.deadlines.proof_at
    return new


def hand_over(old: Context, new: Context, now: float) -> None:
    """CHILD_SAs, and requests that wait, belong to the new IKE SA (RFC 7296 §2.8).

    Both see the same CHILD_SAs from now on: a DELETE for one of them may still come on the old IKE SA.
    """
    if old.succession.handed_over:
        return
    old.succession.handed_over = True
    followup.give_up_all(old)
    new.enter(State.ESTABLISHED)
    new.children, old.children.holder = old.children, new
    of_the_old = (IkeRekey, delete.IkeDelete, liveness.LivenessCheck)
    for task in old.queue.take_all():
        if not isinstance(task, of_the_old):
            new.queue.add(task)
    new.wanted = old.wanted
    replacement.replaced_by(old, new)
    if old.withdrawn:
        delete.withdraw(new, now)
        new.send_next(now)
        old.emit(*new.take())
        return
    text = f"in place of {old.sa.spi_i.hex()}_{old.sa.spi_r.hex()}, {new.sa.suite}"
    new.report(Kind.IKE_REKEYED, text, renewal="ours" if new.sa.initiator else "peer")
    old.emit(*new.take())


def _await_delete(context: Context, now: float) -> None:
    """Another stands in its place: nothing is on it, and the peer deletes it."""
    context.succession.handed_over = True
    context.enter(State.REKEYED)
    context.deadlines.close_at = now + AWAIT_DELETE
