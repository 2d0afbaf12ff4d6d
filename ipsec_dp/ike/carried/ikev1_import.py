"""Values back into what there is with the peers of IKEv1. Until `Ikev1Import.commit` the manager does not know of any of it."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from ipsec_dp.ike.actions import Action, Cause, ExpectInbound, InstallInbound, InstallOutbound, SwitchOutbound
from ipsec_dp.ike.carried import isakmp_model as i
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.carried.ikev1 import SA_TIMES, TIMES
from ipsec_dp.ike.carried.keys import to_date
from ipsec_dp.ike.carried.part import UNSOUND
from ipsec_dp.ike.carried.wishes import wanted_parts
from ipsec_dp.ike.nat import Said
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.suites import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v1.context import IsakmpContext, Peering
from ipsec_dp.ike.v1.deadlines import IsakmpDeadlines
from ipsec_dp.ike.v1.fragment import HeldParts, IsakmpFragments
from ipsec_dp.ike.v1.keymat import Skeyids
from ipsec_dp.ike.v1.quick import QuickMode, QuickStage
from ipsec_dp.ike.v1.sa import IpsecSa, IsakmpSa, Waiting
from ipsec_dp.ike.v1.standing import PeersAbilities, Proven
from ipsec_dp.ike.v1.states import IpsecSaState, IsakmpState
from ipsec_dp.ike.v1.wire import COOKIE, ExchangeMode
from ipsec_dp.util.wiping import unless_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v1.manager import IsakmpManager

S: Final = IsakmpState
_UP: Final = (S.SA_SENT, S.KE_SENT, S.AUTH_SENT, S.ESTABLISHED)  # steps that the table has


class Ikev1Import:
    """One model, for one manager. What there is with a peer, of which it says what cannot be, is left out; making it raises one of
    UNSOUND for what belongs to none alone."""

    def __init__(self, part: i.Ikev1Part, manager: IsakmpManager, now: float) -> None:
        self._part, self._manager, self._now = part, manager, now
        self.left_out: list[m.LeftOut] = []
        self.reserved: list[tuple[str, int]] = []
        self._peerings: list[tuple[i.PeeringPart, Peering]] = []
        self._cookies: set[bytes] = set()
        self._numbers: set[int] = set()
        with unless_whole(self.wipe):
            self._make()

    def _make(self) -> None:
        part, manager = self._part, self._manager
        for one in part.peerings:
            why, reserved = "its tunnel is no longer configured, or speaks another version", len(self.reserved)
            try:
                if manager.peer(one.tunnel) is not None:
                    self._peerings.append((one, self._peering(one)))
                    continue
            except UNSOUND as error:
                why = f"its state says what cannot be ({type(error).__name__})"
                del self.reserved[reserved:]
            cookies = [each.cookie_i for each in one.sessions] or [b""]
            self.left_out += [m.LeftOut(tunnel=one.tunnel, spi_i=cookie, why=why) for cookie in cookies]
        made = {id(one): peering for one, peering in self._peerings}
        due = [(made.get(id(part.peerings[place])), number) for place, number in part.due]
        self._due = [one if number < 0 else one.sessions[number] for one, number in due if one is not None]

    def wipe(self) -> None:
        """As `Ikev2Import.wipe`."""
        for _, peering in self._peerings:
            _wipe(peering)

    def commit(self) -> None:
        """They are the manager's."""
        self._manager.go_on_from((self._part.counts, self._part.retransmissions))
        for part, peering in self._peerings:
            pairs = zip(part.sessions, peering.sessions, strict=True)
            self._manager.take_over(peering, [session for one, session in pairs if one.by_request])
            if peering.account is not None and part.account is not None:
                peering.account.resume(part.account)
        everybody: list[IsakmpContext | Peering] = list(self._due)
        for _, peering in self._peerings:
            everybody += [*peering.sessions, peering]
        for owner in everybody:
            self._manager.await_times(owner)
        for part, peering in self._peerings:
            if part.calling and peering.current is None:
                self._manager.gateway.call(peering, self._now)

    def actions(self) -> Iterator[Action]:
        """As `Ikev2Import.actions`."""
        for part, peering in self._peerings:
            for one in part.sas:
                yield from _installs(one, peering)
            for session in peering.sessions:
                for each in session.exchanges.values():
                    if each.initiator and each.stage is QuickStage.ASKED:
                        yield ExpectInbound(part.tunnel, each.spi_in, session.path, session.udp)

    def _peering(self, part: i.PeeringPart) -> Peering:
        peer = self._manager.peer(part.tunnel)
        if peer is None or not (part.sessions or part.last):
            raise ValueError("nobody is known of whom this is")
        peering = Peering(self._manager.gateway, peer, None)
        with unless_whole(partial(_wipe, peering)):
            self._fill(peering, part)
        return peering

    def _fill(self, peering: Peering, part: i.PeeringPart) -> None:
        for one in part.sas:
            if one.number in self._numbers or self._manager.has_number(one.number):
                raise ValueError("two IPsec SAs of one number")
            self._numbers.add(one.number)
            peering.sas[one.number] = _ipsec_sa(one)
        for each in part.sessions:
            peering.sessions.append(self._session(each, peering))
        peering.last = None if part.last is None else self._session(part.last, peering, closed=True)
        peering.wanted.resume(wanted_parts(part.wanted))
        peering.seen = {number: v.pairs_of(pairs) for number, pairs in part.seen.items()}
        peering.wait_until = part.wait_until
        peering.key = self._manager.key_of(peering.sessions[0] if peering.sessions else peering.last)  # type: ignore[arg-type]

    def _session(self, part: i.IsakmpSaPart, peering: Peering, *, closed: bool = False) -> IsakmpContext:
        sa = _isakmp_sa(part, closed=closed)
        with unless_whole(sa.wipe):
            if sa.own_cookie in self._cookies or self._manager.has_cookie(sa.own_cookie):
                raise ValueError("two ISAKMP SAs of one cookie")
            self._cookies.add(sa.own_cookie)
            return self._context(part, sa, peering, closed=closed)

    def _context(self, part: i.IsakmpSaPart, sa: IsakmpSa, peering: Peering, *, closed: bool) -> IsakmpContext:
        candidates, path = Candidates((peering.peer,)), v.path_of(part.path)
        context = IsakmpContext(self._manager.gateway, candidates, sa, path, self._now, part.number)
        sa.started, context.nat, context.peering = part.started, v.nat_of(part.nat), peering
        cookie, end = part.request_key
        context.request_key = cookie, v.endpoint(end)
        negotiation, alive = context.negotiation, context.liveliness
        negotiation.last_in, negotiation.last_out = part.last_in, part.last_out
        negotiation.hints = [(text, Cause(cause) if cause else None) for text, cause in part.hints]
        negotiation.answers_kept_back = part.answers_kept_back
        context.abilities = PeersAbilities(
            nat_t=part.nat_t,
            said=Said(part.said),
            dpd=part.dpd,
            fragmentation=part.fragmentation,
            vendors=part.vendors,
            unknown_vendors=part.unknown_vendors,
        )
        certificates = tuple(map(x509.load_der_x509_certificate, part.certificates))
        context.proven = Proven(v.identities_of(part.identities), certificates, to_date(part.until))
        context.deadlines = IsakmpDeadlines(**_known(part.deadlines, TIMES))
        alive.heard, alive.attempts = part.heard, part.attempts
        alive.asked_at, alive.move_at = part.asked_at, part.move_at
        context.waiting, context.replaced = _waiting(part.waiting), part.replaced
        context.fragments = None if part.fragments is None else _fragments(part.fragments)
        context.repeats.resume(part.repeats)
        context.seen = set(part.seen)
        for one in part.exchanges:
            context.exchanges[one.message_id] = _quick(one, peering)
            if one.initiator and QuickStage(one.stage) is QuickStage.ASKED:
                self.reserved.append((peering.peer.tunnel, v.spi_of(one.spi_in)))
        for state in (S.CLOSED,) if closed else _UP:
            context.enter(state)
        return context


def _isakmp_sa(part: i.IsakmpSaPart, *, closed: bool) -> IsakmpSa:
    if len(part.cookie_i) != COOKIE or len(part.cookie_r) != COOKIE or closed == (part.keys is not None):
        raise ValueError("an ISAKMP SA without cookies or keys")
    suite, exchange = v.ike_suite_of(part.suite), ExchangeMode(part.exchange)
    if part.keys is not None and len(part.keys.cipher) != suite.encryption.key:
        raise ValueError("a key that is too long or too short")
    keys = None if part.keys is None else Skeyids(**{one.name: getattr(part.keys, one.name)[:] for one in fields(Skeyids)})
    return IsakmpSa(
        part.initiator,
        part.cookie_i,
        part.cookie_r,
        suite,
        part.method,
        exchange,
        keys,
        part.last_block,
        part.started,
        part.established_at,
        part.life_s,
    )


def _wipe(peering: Peering) -> None:
    """Whatever its ISAKMP SAs have of keys."""
    for session in peering.sessions:
        session.sa.wipe()


def _known(times: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    if not times.keys() <= set(names):
        raise ValueError("a time that nobody knows")
    return times


def _waiting(part: i.WaitingPart | None) -> Waiting | None:
    return None if part is None else Waiting(part.datagram, part.deadline, part.tries, part.attempt, part.kept_back, part.began)


def _fragments(part: i.HeldPart) -> IsakmpFragments:
    fragments = IsakmpFragments()
    fragments.deadline = part.forget_at
    path = None if part.path is None else v.path_of(part.path)
    whose = None if path is None else (path, part.exchange, part.message_id, part.identifier)
    fragments.resume(HeldParts(whose, part.parts, part.deadline, part.total, part.last, part.last_ends))
    return fragments


def _quick(part: i.QuickPart, peering: Peering) -> QuickMode:
    return QuickMode(
        part.message_id,
        part.initiator,
        part.iv,
        v.pair_of(part.pair),
        QuickStage(part.stage),
        part.began,
        part.nonces,
        part.spi_in,
        v.half_of(part.key),
        part.replaces,
        None if part.sa is None else peering.sas.get(part.sa),
        _waiting(part.waiting),
        part.last_in,
        part.last_out,
        part.forget_at,
        v.proposals_of(part.admitted) or peering.peer.esp_proposals,
    )


def _ipsec_sa(part: i.IpsecSaPart) -> IpsecSa:
    suite, pair = v.esp_suite_of(part.suite), v.pair_of(part.pair)
    return IpsecSa(
        part.number,
        v.spi_of(part.spi_in),
        v.spi_of(part.spi_out),
        suite,
        part.initiator,
        pair,
        part.created,
        part.used,
        part.lowest_nonce,
        IpsecSaState(part.state),
        part.sending,
        part.spent,
        part.asked,
        part.failures,
        part.reprieved,
        part.told,
        part.replaces,
        **_known(part.times, SA_TIMES),
        limits=v.limits_of(part.limits),
    )


def _installs(part: i.IpsecSaPart, peering: Peering) -> list[Action]:
    """The keys are copies, for whoever installs them wipes them."""
    sa, context = peering.sas[part.number], peering.current or peering.last
    if not part.keymat_in or context is None:
        return []
    common: dict[str, Any] = {"path": context.path, "udp": context.udp, "limits": sa.limits}
    common |= {"suite": suite_of(sa.suite), "selectors": selector_pairs((sa.pair,))}
    tunnel, window = peering.peer.tunnel, part.replay_window
    keymat = part.keymat_in[:]
    found: list[Action] = [
        InstallInbound(tunnel, sa.number, sa.spi_in, keymat=keymat, replay_window=window, replaces=sa.replaces, **common)
    ]
    if part.keymat_out:
        found.append(InstallOutbound(tunnel, sa.number, sa.spi_out, keymat=part.keymat_out[:], **common))
    if sa.sending:
        found.append(SwitchOutbound(tunnel, sa.number))
    return found
