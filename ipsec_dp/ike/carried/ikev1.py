"""What there is with the peers of IKEv1 out of one manager, as values. IVs follow from message IDs, each of which is used once: no
stride of them can be reserved, so only a source that has stopped is carried."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from ipsec_dp.ike.carried import isakmp_model as i
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.carried.damaged import SpoiledRecord, left_out, no_peering
from ipsec_dp.ike.carried.keys import KeysOf, from_date
from ipsec_dp.ike.carried.part import wiped_on_error
from ipsec_dp.ike.carried.wishes import wanted_part
from ipsec_dp.ike.v1.deadlines import IsakmpDeadlines
from ipsec_dp.ike.v1.keymat import Skeyids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.fragment import IsakmpFragments
    from ipsec_dp.ike.v1.manager import IsakmpManager
    from ipsec_dp.ike.v1.quick import QuickMode
    from ipsec_dp.ike.v1.sa import IpsecSa, Waiting

TIMES: Final = tuple(field.name for field in fields(IsakmpDeadlines))
SA_TIMES: Final = ("soft", "hard", "idle_at", "look_at", "tell_at", "remove_at")
_RUNNING: Final = "it speaks IKEv1, of whose IVs none can be reserved: it is carried when its gateway has stopped, and not before"


class Ikev1Export:
    """Of one manager. `stopped`: it has; else nothing of it is carried."""

    def __init__(self, manager: IsakmpManager, now: float, keys: KeysOf, *, stopped: bool) -> None:
        self._manager, self._now, self._keys = manager, now, keys
        peerings, alone = manager.carried()
        self.peerings = [one for one in peerings if not one.withdrawn] if stopped else []
        self._due = manager.due()
        self.left_out = [
            m.LeftOut(tunnel=one.peer.tunnel, spi_i=one.sa.cookie_i, why=f"{one.state} when it was to be carried: it is begun anew")
            for one in alone
        ]
        if not stopped:
            running = [one for each in peerings for one in each.sessions]
            self.left_out += [m.LeftOut(tunnel=one.peer.tunnel, spi_i=one.sa.cookie_i, why=_RUNNING) for one in running]

    def part(self, peerings: Sequence[Peering], unsound: list[m.LeftOut], *, first: bool) -> i.Ikev1Part:
        """These, and with the `first` of them what is of none; the source is as it was. `unsound` gets those that cannot be
        exported, in whose places is what no import takes."""
        counts, retransmissions = self._manager.tallies() if first else ({}, {})
        part = i.Ikev1Part(counts=counts, retransmissions=retransmissions)
        places: dict[object, tuple[int, int]] = {}
        with wiped_on_error((part,)):
            part.peerings.extend(self._peering(one, unsound) for one in peerings)
            for place, (one, made) in enumerate(zip(peerings, part.peerings, strict=True)):
                if made.sessions or made.last:
                    places |= {one: (place, -1)} | {session: (place, number) for number, session in enumerate(one.sessions)}
            part.due.extend(places[owner] for owner in (self._due if places else ()) if owner in places)
            return part

    @staticmethod
    def retire(peerings: Sequence[Peering]) -> None:
        """They are another's from now on."""
        for peering in peerings:
            for session in peering.sessions:
                session.sa.retired = True
                if session.sa.keys is not None:
                    session.sa.keys.wipe()

    def _peering(self, peering: Peering, unsound: list[m.LeftOut]) -> i.PeeringPart:
        sessions, sas = list[i.IsakmpSaPart](), list[i.IpsecSaPart]()
        try:
            with wiped_on_error(sessions), wiped_on_error(sas):
                sessions.extend(self._session(one, peering) for one in peering.sessions)
                sas.extend(self._ipsec_sa(one, peering) for one in peering.sas.values())
                return self._whole_peering(peering, sessions, sas)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            named = SpoiledRecord(peering.peer.tunnel)
            unsound.append(left_out(named, error))
            return no_peering(named)

    def _whole_peering(self, peering: Peering, sessions: list[i.IsakmpSaPart], sas: list[i.IpsecSaPart]) -> i.PeeringPart:
        """`last` has no keys."""
        return i.PeeringPart(
            tunnel=peering.peer.tunnel,
            sessions=sessions,
            last=None if peering.last is None else self._session(peering.last, peering),
            sas=sas,
            wanted=wanted_part(peering.wanted),
            account=None if peering.account is None else peering.account.level,
            seen={number: v.pair_values(pairs) for number, pairs in peering.seen.items()},
            calling=peering.calling,
            wait_until=peering.wait_until,
        )

    def _session(self, context: IsakmpContext, peering: Peering) -> i.IsakmpSaPart:
        sa, negotiation, abilities, alive = context.sa, context.negotiation, context.abilities, context.liveliness
        if sa.suite is None or context.proven.identities is None:
            raise ValueError("an ISAKMP SA that is up, and has no suite or no identities")
        cookie, end = context.request_key
        return i.IsakmpSaPart(
            initiator=sa.initiator,
            cookie_i=sa.cookie_i,
            cookie_r=sa.cookie_r,
            suite=v.suite_value(sa.suite),
            method=sa.method,
            exchange=sa.exchange,
            last_block=sa.last_block,
            started=sa.started,
            established_at=sa.established_at,
            life_s=sa.life_s,
            path=v.path_value(context.path),
            nat=v.nat_value(context.nat),
            request_key=(cookie, v.end_value(end)),
            by_request=self._manager.knows_request(context),
            last_in=negotiation.last_in,
            last_out=negotiation.last_out,
            hints=[(text, "" if cause is None else cause.value) for text, cause in negotiation.hints],
            answers_kept_back=negotiation.answers_kept_back,
            nat_t=abilities.nat_t,
            said=abilities.said.value,
            dpd=abilities.dpd,
            fragmentation=abilities.fragmentation,
            vendors=abilities.vendors,
            unknown_vendors=abilities.unknown_vendors,
            identities=v.identity_values(context.proven.identities),
            certificates=[one.public_bytes(Encoding.DER) for one in context.proven.certificates],
            until=from_date(context.proven.until),
            deadlines=self._times(context, peering),
            heard=alive.heard,
            number=alive.number,
            attempts=alive.attempts,
            asked_at=alive.asked_at,
            move_at=alive.move_at,
            waiting=_waiting_part(context.waiting),
            fragments=None if context.fragments is None else _held_part(context.fragments),
            repeats=context.repeats.level,
            exchanges=[_quick_part(one) for one in context.exchanges.values()],
            seen=sorted(context.seen),
            replaced=context.replaced,
            keys=_keys_part(sa.keys),  # last: nothing fails behind them, which would leave copies
        )

    def _times(self, context: IsakmpContext, peering: Peering) -> dict[str, float]:
        """Another that was being made in its place is not carried: it is begun anew, at once."""
        times = {name: getattr(context.deadlines, name) for name in TIMES}
        if peering.calling and peering.current is context:
            times["soft"] = min(times["soft"], self._now)
        return times

    def _ipsec_sa(self, sa: IpsecSa, peering: Peering) -> i.IpsecSaPart:
        keymat_in, keymat_out = self._keys(sa.spi_in)
        return i.IpsecSaPart(
            number=sa.number,
            spi_in=sa.spi_in,
            spi_out=sa.spi_out,
            suite=v.suite_value(sa.suite),
            initiator=sa.initiator,
            pair=v.pair_value(sa.pair),
            created=sa.created,
            used=sa.used,
            lowest_nonce=sa.lowest_nonce,
            state=sa.state.value,
            sending=sa.sending,
            spent=sa.spent,
            asked=sa.asked,
            failures=sa.failures,
            reprieved=sa.reprieved,
            told=sa.told,
            replaces=sa.replaces,
            times={name: getattr(sa, name) for name in SA_TIMES},
            limits=v.limits_value(sa.limits),
            replay_window=peering.peer.replay_window,
            keymat_in=bytearray(keymat_in),
            keymat_out=bytearray(keymat_out),
        )


def _keys_part(keys: Skeyids | None) -> i.IsakmpKeysPart | None:
    return None if keys is None else i.IsakmpKeysPart(**{one.name: getattr(keys, one.name)[:] for one in fields(Skeyids)})


def _waiting_part(waiting: Waiting | None) -> i.WaitingPart | None:
    if waiting is None:
        return None
    return i.WaitingPart(
        datagram=waiting.datagram,
        deadline=waiting.deadline,
        tries=waiting.tries,
        attempt=waiting.attempt,
        began=waiting.began,
        kept_back=waiting.kept_back,
    )


def _held_part(fragments: IsakmpFragments) -> i.HeldPart:
    held = fragments.held
    common = i.HeldPart(
        parts=held.parts,
        deadline=held.deadline,
        forget_at=fragments.deadline,
        total=held.total,
        last=held.last,
        last_ends=held.last_ends,
    )
    if not isinstance(held.whose, tuple):
        return common
    path, exchange, message_id, identifier = held.whose
    whose = {"path": v.path_value(path), "exchange": exchange, "message_id": message_id, "identifier": identifier}
    return replace(common, **whose)


def _quick_part(exchange: QuickMode) -> i.QuickPart:
    return i.QuickPart(
        message_id=exchange.message_id,
        initiator=exchange.initiator,
        iv=exchange.iv,
        pair=v.pair_value(exchange.pair),
        stage=exchange.stage.value,
        began=exchange.began,
        nonces=exchange.nonces,
        spi_in=exchange.spi_in,
        key=v.half_part(exchange.key),
        replaces=exchange.replaces,
        sa=None if exchange.sa is None else exchange.sa.number,
        waiting=_waiting_part(exchange.waiting),
        last_in=exchange.last_in,
        last_out=exchange.last_out,
        forget_at=exchange.forget_at,
        admitted=v.proposal_values(exchange.admitted),
    )
