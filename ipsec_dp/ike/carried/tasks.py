"""Requests of ours that wait or are under way, and the peer's series, between the core and the model (IKEv2).

They name CHILD_SAs and IKE SAs, which are found by `Known`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.v2.child import Agreement
from ipsec_dp.ike.v2.child_create import ChildCreate
from ipsec_dp.ike.v2.child_offer import Offer
from ipsec_dp.ike.v2.child_respond import Prepared
from ipsec_dp.ike.v2.delete import ChildDelete, IkeDelete
from ipsec_dp.ike.v2.followup import OurSeries
from ipsec_dp.ike.v2.ike_rekey import AwaitedIkeSa, IkeAgreement, IkeRekey
from ipsec_dp.ike.v2.liveness import LivenessCheck
from ipsec_dp.ike.v2.message import Header, Message
from ipsec_dp.ike.v2.probe import PathProbe
from ipsec_dp.ike.v2.protect import parse_inner
from ipsec_dp.ike.v2.series import TheirSeries
from ipsec_dp.ike.v2.wire import IKE_SPI, ExchangeType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ike.v2.sa import Child


class Exporting(NamedTuple):
    """The places of the IKE SAs that are carried; CHILD_SAs that are named, whether anything holds them or not."""

    places: dict[Context, int]
    named: dict[int, Child]

    def place(self, context: Context | None) -> int | None:
        """None: it is not carried."""
        return None if context is None else self.places.get(context)

    def child(self, child: Child | None) -> int | None:
        if child is None:
            return None
        self.named[child.number] = child
        return child.number


@dataclass(slots=True)
class Importing:
    """The IKE SAs by their places, CHILD_SAs by their numbers."""

    sas: Sequence[Context | None] = ()
    children: dict[int, Child] = field(default_factory=dict)

    def at(self, place: int | None) -> Context | None:
        return None if place is None else self.sas[place]

    def child(self, number: int | None) -> Child | None:
        return None if number is None else self.children[number]


# ---- out -------------------------------------------------------------------------------------------------------------------------


def task_part(task: Task, known: Exporting) -> m.TaskPart:
    match task:
        case ChildCreate():
            return _child_create(task, known)
        case IkeRekey():
            return m.IkeRekeyPart(
                rival=known.place(task.rival),
                offer=v.proposal_values(task.offer),
                any_suite=task.any_suite,
                rounds=task.rounds,
                spi=task.spi,
                nonce=task.nonce,
                key=v.half_part(task.key),
                agreed=_agreement(task.agreed),
                series=_our_series(task.series),
                following=task.exchange is ExchangeType.IKE_FOLLOWUP_KE,
                began_again=task.began_again,
            )
        case ChildDelete():
            return m.ChildDeletePart(spi=task.spi, child=known.child(task.child))
        case IkeDelete():
            return m.IkeDeletePart(cause=task.cause, text=task.text, again=task.again)
        case LivenessCheck():
            return m.LivenessPart(tries=task.tries)
        case PathProbe():
            return m.ProbePart(
                asked=task.asked,
                octets=task.octets,
                first_wait=task.first_wait,
                retries=task.retries,
                tries=task.tries,
                whole=task.whole,
            )
    raise CarriedStateError(f"a request of ours cannot be carried: {task.name}")


def _child_create(task: ChildCreate, known: Exporting) -> m.ChildCreatePart:
    offer = task.offer
    return m.ChildCreatePart(
        pairs=v.pair_values(task.pairs),
        packet=None if task.packet is None else v.pair_value(task.packet),
        rekeys=known.child(task.rekeys),
        any_suite=task.any_suite,
        rival=known.child(task.rival),
        offer=None
        if offer is None
        else m.OfferPart(
            spi=offer.spi,
            proposals=v.proposal_values(offer.proposals),
            local=v.selector_values(offer.ts_local),
            remote=v.selector_values(offer.ts_remote),
            pairs=v.pair_values(offer.pairs),
            configured=v.pair_values(offer.configured),
            admitted=v.proposal_values(offer.admitted),
            resource=offer.resource,
        ),
        key=v.half_part(task.key),
        group="" if task.group is None else task.group.keyword,
        rounds=task.rounds,
        nonce=task.nonce,
        nonces=task.nonces,
        series=_our_series(task.series),
        following=task.exchange is ExchangeType.IKE_FOLLOWUP_KE,
        began_again=task.began_again,
        asked=task.rekeys is not None and task.rekeys.asked is task,
        beside=known.child(task.beside),
    )


def _agreement(agreed: IkeAgreement | None) -> m.AgreementPart | None:
    if agreed is None:
        return None
    return m.AgreementPart(suite=v.suite_value(agreed.suite), spi=agreed.spi, nonces=agreed.nonces)


def _our_series(series: OurSeries | None) -> m.OurSeriesPart | None:
    if series is None:
        return None
    header, (first, octets) = series.answer.header, series.answer.inner or (0, b"")
    return m.OurSeriesPart(
        further=[one.keyword for one in series.further],
        secrets=[one[:] for one in series.secrets],
        answer=m.ClearPart(
            header=header.spi_i + header.spi_r,
            exchange=header.exchange,
            flags=header.flags,
            message_id=header.message_id,
            first=first,
            octets=bytearray(octets),
        ),
        link=series.link,
        key=v.half_part(series.key),
    )


def their_series_part(series: TheirSeries, known: Exporting) -> m.TheirSeriesPart:
    purpose = series.purpose
    ike = purpose if isinstance(purpose, AwaitedIkeSa) else None
    return m.TheirSeriesPart(
        further=[one.keyword for one in series.further],
        secrets=[one[:] for one in series.secrets],
        nonces=series.nonces,
        link=series.link,
        until=series.until,
        rekeys=known.child(series.rekeys),
        ike=None if ike is None else _agreement(ike.agreed),
        spi=b"" if ike is None else ike.spi,
        child=_prepared(purpose) if isinstance(purpose, Prepared) else None,
    )


def _prepared(made: Prepared) -> m.PreparedPart:
    local, remote = made.selectors
    return m.PreparedPart(
        spis=made.spis,
        chosen=v.proposal_value(made.chosen),
        suite=v.suite_value(made.suite),
        local=v.selector_values(local),
        remote=v.selector_values(remote),
        pairs=v.pair_values(made.pairs),
        fragments_also=made.agreed.fragments_also,
        resource=made.agreed.resource,
    )


# ---- in --------------------------------------------------------------------------------------------------------------------------


def task_of(part: m.TaskPart, known: Importing) -> Task:
    match part:
        case m.ChildCreatePart():
            return _child_create_of(part, known)
        case m.IkeRekeyPart():
            return _ike_rekey_of(part, known)
        case m.ChildDeletePart():
            return ChildDelete(v.spi_of(part.spi), known.child(part.child))
        case m.IkeDeletePart():
            return IkeDelete(Cause(part.cause), part.text, again=part.again)
        case m.LivenessPart():
            return LivenessCheck(part.tries)
        case m.ProbePart():
            probe = PathProbe(part.asked, part.first_wait, part.retries)
            probe.octets, probe.tries, probe.whole = part.octets, part.tries, part.whole
            return probe


def _child_create_of(part: m.ChildCreatePart, known: Importing) -> ChildCreate:
    rekeys = known.child(part.rekeys)
    packet = None if part.packet is None else v.pair_of(part.packet)
    beside = known.child(part.beside)
    task = ChildCreate(v.pairs_of(part.pairs), packet, rekeys, any_suite=part.any_suite, beside=beside)
    task.rival = known.child(part.rival)
    if part.offer is not None:
        one = part.offer
        selectors = v.selectors_of(one.local), v.selectors_of(one.remote)
        pairs, configured, admitted = v.pairs_of(one.pairs), v.pairs_of(one.configured), v.proposals_of(one.admitted)
        task.offer = Offer(v.spi_of(one.spi), v.proposals_of(one.proposals), *selectors, pairs, configured, admitted, one.resource)
    task.key = v.half_of(part.key)
    task.group = v.group_of(part.group) if part.group else None
    task.rounds, task.nonce, task.nonces = part.rounds, part.nonce, part.nonces
    task.began_again = part.began_again
    task.series = _our_series_of(part.series)
    if part.following:
        task.exchange = ExchangeType.IKE_FOLLOWUP_KE
    if part.asked and rekeys is not None:
        rekeys.asked = task
    return task


def _ike_rekey_of(part: m.IkeRekeyPart, known: Importing) -> IkeRekey:
    task = IkeRekey()
    task.rival = known.at(part.rival)
    task.offer, task.any_suite, task.rounds = v.proposals_of(part.offer), part.any_suite, part.rounds
    task.spi, task.nonce, task.key = part.spi, part.nonce, v.half_of(part.key)
    task.agreed = None if part.agreed is None else _agreement_of(part.agreed)
    task.series, task.began_again = _our_series_of(part.series), part.began_again
    if part.following:
        task.exchange = ExchangeType.IKE_FOLLOWUP_KE
    return task


def _agreement_of(part: m.AgreementPart) -> IkeAgreement:
    return IkeAgreement(v.ike_suite_of(part.suite), part.spi, part.nonces)


def _our_series_of(part: m.OurSeriesPart | None) -> OurSeries | None:
    if part is None:
        return None
    answer, unknown = part.answer, list[int]()
    header = Header(answer.header[:IKE_SPI], answer.header[IKE_SPI:], answer.exchange, answer.flags, answer.message_id)
    payloads, inner = parse_inner(answer.first, answer.octets, unknown), (answer.first, bytes(answer.octets))
    message = Message(header, payloads, tuple(unknown), inner)
    further, key = v.groups_of(part.further), v.half_of(part.key)
    secrets = [one[:] for one in part.secrets]  # last of all: whoever fails leaves none
    return OurSeries.going_on(further, secrets, message, part.link, key)


def their_series_of(part: m.TheirSeriesPart, known: Importing) -> TheirSeries:
    rekeys = known.child(part.rekeys)
    purpose: AwaitedIkeSa | Prepared
    if part.ike is not None:
        purpose = AwaitedIkeSa(_agreement_of(part.ike), part.spi)
    elif part.child is not None:
        purpose = _prepared_of(part.child, part.nonces, rekeys)
    else:
        raise ValueError("a series of key exchanges for nothing")
    further, secrets = v.groups_of(part.further), [one[:] for one in part.secrets]
    return TheirSeries(further, secrets, part.nonces, purpose, rekeys, part.ike is not None, part.link, part.until)


def _prepared_of(part: m.PreparedPart, nonces: tuple[bytes, bytes], rekeys: Child | None) -> Prepared:
    selectors = v.selectors_of(part.local), v.selectors_of(part.remote)
    agreed = Agreement(nonces, initiator=False, rekeys=rekeys, fragments_also=part.fragments_also, resource=part.resource)
    ours, theirs = part.spis
    spis = v.spi_of(ours), v.spi_of(theirs)
    return Prepared(spis, v.proposal_of(part.chosen), v.esp_suite_of(part.suite), selectors, v.pairs_of(part.pairs), agreed)
