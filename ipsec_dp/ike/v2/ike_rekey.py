"""Rekeying an IKE SA: a new one takes all CHILD_SAs over, then the old one is deleted (RFC 7296 §1.3.2, §2.8, §2.18, §2.25.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, proposal
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.v2 import child_create, delete, keymat, liveness, replacement
from ipsec_dp.ike.v2.exchanges import Priority, Shape, Task, Window
from ipsec_dp.ike.v2.groups import groups_of, wanted_group
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Nonce, Notify, Payload, SecurityAssociation
from ipsec_dp.ike.v2.sa import IkeSa, State, nonce, nonzero_spi
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import IkeSuite
    from ipsec_dp.ike.v2.sa import Received
    from ipsec_dp.ike.v2.session import IkeSession

MAX_ROUNDS: Final = 3  # INVALID_KE_PAYLOAD answers that one request follows
AWAIT_DELETE: Final = 60.0  # seconds an SA that was replaced waits for the peer's DELETE


class RekeyIke(Task):
    """Our request for another IKE SA in place of this one. `rival`: what the peer made in the meantime."""

    exchange = ExchangeType.CREATE_CHILD_SA
    shape = Shape.REKEY_IKE
    priority = Priority.REKEY_IKE

    def __init__(self) -> None:
        self.rival: IkeSession | None = None
        self.rounds = 0
        self.spi = self.nonce = b""
        self.key: dh.KeyExchange | None = None

    def build(self, session: IkeSession, now: float) -> list[Payload]:
        del now
        rng, ours = session.host.environment.rng, session.peer.ike_proposals
        groups = groups_of(ours)
        current = None if session.sa.suite is None else session.sa.suite.group
        wanted = self.key.group if self.key is not None else current
        self.key = dh.initiate(wanted if wanted in groups else groups[0], rng)
        self.spi, self.nonce = nonzero_spi(rng), nonce(rng)
        return [
            SecurityAssociation(proposal.with_spi(ours, self.spi)),
            Nonce(self.nonce),
            KeyExchangePayload(self.key.group.id, self.key.public),
        ]

    def answered(self, session: IkeSession, received: Received) -> None:
        message, now = received.message, received.now
        sa, ke, peer_nonce = message.get(SecurityAssociation), message.get(KeyExchangePayload), message.get(Nonce)
        if sa is None or ke is None or peer_nonce is None or self.key is None:
            return
        chosen = proposal.accept(proposal.with_spi(session.peer.ike_proposals, self.spi), sa.proposals)
        suite = proposal.ike_suite(chosen)
        if ke.group != self.key.group.id or suite.group.id != ke.group or not any(chosen.spi):
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        new_sa = IkeSa(initiator=True, spi_i=self.spi, spi_r=chosen.spi)
        secret = self.key.shared_secret(ke.data)
        new = _successor(session, new_sa, suite, (self.nonce, peer_nonce.data), secret, now)
        rival = self.rival
        if rival is None or not rival.alive:
            hand_over(session, new, now)
            delete.ike(session, Cause.REPLACED, "it was rekeyed", now)
        elif new.lowest_nonce < rival.lowest_nonce:  # ours is redundant, and ours to delete; the peer deletes the old one
            hand_over(session, rival, now)
            _await_delete(session, now)
            new.state = State.ESTABLISHED
            delete.ike(new, Cause.REPLACED, "the peer's rekey stands", now)
            new.pump(now)
            for action in new.take():
                session.emit(action)
        else:
            hand_over(session, new, now)
            _await_delete(rival, now)
            delete.ike(session, Cause.REPLACED, "it was rekeyed", now)

    def refused(self, session: IkeSession, notify: Notify | None, text: str, now: float) -> None:
        if notify is not None and notify.notify_type == NotifyType.INVALID_KE_PAYLOAD and self.key is not None:
            self.rounds += 1
            if self.rounds <= MAX_ROUNDS:
                group = wanted_group(notify, session.peer.ike_proposals, self.key.group)
                self.key = dh.initiate(group, session.host.environment.rng)
                session.enqueue(self)
                return
        if self.rival is not None and self.rival.alive:
            hand_over(session, self.rival, now)
            _await_delete(session, now)
            return
        session.deadlines.retry_rekey(now, session.host.environment.rng)
        session.report(Kind.WARNING, f"the IKE SA is not rekeyed yet: {text}", cause=Cause.REFUSED)

    def dropped(self, session: IkeSession) -> None:
        """The old one ends while the peer's new one stands: that one has taken over."""
        if self.rival is not None and self.rival.alive:
            hand_over(session, self.rival, self.rival.established_at)


def ike(session: IkeSession) -> None:
    """Rekey the IKE SA when our turn comes."""
    tasks = session.queue if session.task is None else [session.task, *session.queue]
    if not any(isinstance(task, RekeyIke) for task in tasks):
        session.enqueue(RekeyIke())


def not_now(session: IkeSession, received: Received) -> list[Payload]:
    """A request for an SA on an IKE SA that is on its way out (RFC 7296 §2.25.2)."""
    del session, received
    return [Notify(NotifyType.TEMPORARY_FAILURE)]


def answer(session: IkeSession, received: Received) -> list[Payload]:
    """The peer rekeys the IKE SA."""
    message, now = received.message, received.now
    task = session.task
    rival = isinstance(task, RekeyIke)
    if isinstance(task, child_create.CreateChild | delete.DeleteSpi) or (isinstance(task, RekeyIke) and task.rival is not None):
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    sa, ke, peer_nonce = message.get(SecurityAssociation), message.get(KeyExchangePayload), message.get(Nonce)
    if sa is None or ke is None or peer_nonce is None:
        return [Notify(NotifyType.INVALID_SYNTAX)]
    chosen = proposal.select(session.peer.ike_proposals, sa.proposals)
    if chosen is None or not any(chosen.spi):
        text = proposal.explain_mismatch(session.peer.ike_proposals, sa.proposals)
        session.report(Kind.WARNING, f"rekey refused, no IKE proposal in common: {text}", cause=Cause.PROPOSAL)
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite = proposal.ike_suite(chosen)
    if ke.group != suite.group.id:
        return [Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
    rng = session.host.environment.rng
    public, secret = dh.respond(suite.group, ke.data, rng)
    own_nonce, spi = nonce(rng), nonzero_spi(rng)
    new_sa = IkeSa(initiator=False, spi_i=chosen.spi, spi_r=spi)
    new = _successor(session, new_sa, suite, (peer_nonce.data, own_nonce), secret, now)
    if isinstance(task, RekeyIke) and rival:
        task.rival = new  # decided when our own response comes
    else:
        session.defer(lambda: hand_over(session, new, now))
        session.defer(lambda: _await_delete(session, now))
    return [
        SecurityAssociation(proposal.with_spi((chosen,), spi)),
        Nonce(own_nonce),
        KeyExchangePayload(suite.group.id, public),
    ]


def _successor(
    session: IkeSession, sa: IkeSa, suite: IkeSuite, nonces: tuple[bytes, bytes], secret: bytearray, now: float
) -> IkeSession:
    """A session for the new IKE SA, keys and all, with nothing on it yet (RFC 7296 §2.18)."""
    old = session.sa
    if old.suite is None or old.keys is None:
        raise IkeError("no keys yet")
    seed = keymat.next_skeyseed(old.suite.prf, old.keys.sk_d, *nonces, (secret,))
    sa.install(suite, keymat.ike_keys(suite, seed, *nonces, sa.spi_i, sa.spi_r))
    for used in (seed, secret):
        used[:] = bytes(len(used))
    new = type(session)(session.host, session.candidates, sa, session.path, now)
    new.window = Window()
    new.state, new.handed_over = State.REKEYED, True  # until it is decided that this is the one
    new.authenticated = session.authenticated
    new.established_at = now
    new.lowest_nonce = min(nonces)
    new.identities, new.certificates = session.identities, session.certificates
    new.fragmentation, new.peer_hashes = session.fragmentation, session.peer_hashes
    new.nat = session.nat
    rng = session.host.environment.rng
    new.deadlines.start(session.peer, now, rng, initiator=sa.initiator, called=session.called, behind_nat=session.nat.local)
    new.deadlines.reauth_at, new.deadlines.proof_until = session.deadlines.reauth_at, session.deadlines.proof_until
    new.called = session.called
    session.spawned.append(new)
    return new


def hand_over(old: IkeSession, new: IkeSession, now: float) -> None:
    """CHILD_SAs, and requests that wait, belong to the new IKE SA (RFC 7296 §2.8).

    Both see the same CHILD_SAs from now on: a DELETE for one of them may still come on the old IKE SA.
    """
    del now
    if old.handed_over:
        return
    old.handed_over, new.handed_over = True, False
    new.state = State.ESTABLISHED
    new.children = old.children
    new.queue += [task for task in old.queue if not isinstance(task, RekeyIke | delete.DeleteIke | liveness.Check)]
    old.queue = []
    new.delayed, old.delayed = old.delayed, []
    new.single_pair, new.attempted, new.wanted = old.single_pair, old.attempted, old.wanted
    replacement.follow(old, new)
    new.report(Kind.IKE_REKEYED, f"in place of {old.sa.spi_i.hex()}_{old.sa.spi_r.hex()}, {new.sa.suite}")
    for action in new.take():
        old.emit(action)


def _await_delete(session: IkeSession, now: float) -> None:
    session.state = State.REKEYED
    session.deadlines.close_at = now + AWAIT_DELETE
