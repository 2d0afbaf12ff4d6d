"""Both directions' messages between the core and the model (IKEv2): those that left as the octets that they left in, and what they
say, for the case that they have to leave in shorter datagrams; and what came of the peer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried.tasks import Exporting, Importing, task_of, task_part
from ipsec_dp.ike.octets import Writer
from ipsec_dp.ike.payload import build_chain
from ipsec_dp.ike.v2.exchanges import OutstandingRequest
from ipsec_dp.ike.v2.fragment import HeldFragments, Reassembler
from ipsec_dp.ike.v2.message import Header
from ipsec_dp.ike.v2.protect import parse_inner
from ipsec_dp.ike.v2.sealed import Content, Sealed
from ipsec_dp.ike.v2.wire import IKE_SPI

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Task
    from ipsec_dp.ike.v2.exchanges import Window
    from ipsec_dp.ike.v2.protect import Protection


# ---- out -------------------------------------------------------------------------------------------------------------------------


def window_part(window: Window[Task], outgoing: Protection | None, known: Exporting) -> m.WindowPart:
    """`outgoing`: of the IKE SA; what was protected by another, whose key is gone, is divided no more."""
    return m.WindowPart(
        next_id=window.next_id,
        expected=window.expected,
        reply=_sealed_part(window.sealed_reply, outgoing),
        asked_again=window.asked_again,
        asked_in=window.asked_in,
        repeats=window.repeats.level,
        outstanding=None if window.outstanding is None else _outstanding_part(window.outstanding, outgoing, known),
        requests=_fragments_part(window.requests),
        responses=_fragments_part(window.responses),
    )


def _outstanding_part(outstanding: OutstandingRequest[Task], outgoing: Protection | None, known: Exporting) -> m.OutstandingPart:
    return m.OutstandingPart(
        message_id=outstanding.message_id,
        task=task_part(outstanding.task, known),
        sealed=_sealed_part(outstanding.sealed, outgoing),
        attempt=outstanding.attempt,
        deadline=outstanding.deadline,
        began=outstanding.began,
        kept_back=outstanding.kept_back,
        last=outstanding.last,
    )


def _sealed_part(sealed: Sealed, outgoing: Protection | None) -> m.SealedPart:
    content = sealed.content
    there = content is not None and content.protection is outgoing
    return m.SealedPart(
        datagrams=sealed.datagrams, shorter=dict(sealed.shorter), content=_content_part(content) if content and there else None
    )


def _content_part(content: Content) -> m.ClearPart:
    header, writer = content.header, Writer()
    first = build_chain(writer, content.payloads)
    return m.ClearPart(
        header=header.spi_i + header.spi_r,
        exchange=header.exchange,
        flags=header.flags,
        message_id=header.message_id,
        first=first,
        octets=bytearray(writer.take()),
    )


def _fragments_part(reassembler: Reassembler) -> m.FragmentsPart:
    message_id, held = reassembler.held
    if held is None:
        return m.FragmentsPart(message_id=message_id)
    return m.FragmentsPart(
        message_id=message_id,
        total=held.total,
        first_inner=held.first_inner,
        deadline=held.deadline,
        parts=held.parts,
        longest=held.longest,
    )


# ---- in --------------------------------------------------------------------------------------------------------------------------


def fill_window(window: Window[Task], part: m.WindowPart, outgoing: Protection | None, known: Importing) -> None:
    window.next_id, window.expected, window.sealed_reply = part.next_id, part.expected, _sealed_of(part.reply, outgoing)
    window.asked_again = part.asked_again
    window.asked_in = part.asked_in
    window.repeats.resume(part.repeats)
    _resume(window.requests, part.requests)
    _resume(window.responses, part.responses)
    one = part.outstanding
    if one is not None:
        sealed, task = _sealed_of(one.sealed, outgoing), task_of(one.task, known)  # the task, which may have secrets, last
        window.outstanding = OutstandingRequest(
            one.message_id, task, sealed, one.attempt, one.deadline, one.began, one.kept_back, one.last
        )


def _sealed_of(part: m.SealedPart, outgoing: Protection | None) -> Sealed:
    if part.content is None:
        return Sealed(part.datagrams, None, dict(part.shorter))
    if outgoing is None or not part.datagrams:
        raise ValueError("a message that is to be protected anew, and no key or no message")
    one = part.content
    header = Header(one.header[:IKE_SPI], one.header[IKE_SPI:], one.exchange, one.flags, one.message_id)
    return Sealed(part.datagrams, Content(outgoing, header, parse_inner(one.first, one.octets)), dict(part.shorter))


def _resume(reassembler: Reassembler, part: m.FragmentsPart) -> None:
    held = None
    if part.parts is not None:
        held = HeldFragments(part.total, part.first_inner, part.deadline, dict(part.parts), part.longest)
    reassembler.resume(part.message_id, held)
