"""The Security Association payload: proposals, transforms and attributes as they are on the wire (RFC 7296 §3.3).

Only syntax. Whether a proposal is acceptable is `proposal`'s concern: an unknown protocol, transform or attribute, a proposal
without transforms, an SPI or a Key Length that cannot be, are kept as they came, so that they can be reported and never be chosen,
and the proposals and transforms beside them are looked at all the same (RFC 7296 §3.3.6).
"""

from functools import lru_cache
from typing import Final

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.proposal import Proposal
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.wire import (
    ATTRIBUTE_TV,
    KEY_LENGTH_ATTRIBUTE,
)
from ipsec_dp.ipsec.transforms import Transform

_NO_LENGTH: Final = bytes(2)  # of a key, which is no length of any
_LAST = 0
_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
REMEMBERED: Final = 64  # SA payloads that are remembered as they were read
REMEMBERED_OCTETS: Final = 1024  # of one at the most
_BUILT: Final = 256  # transforms that are remembered as they are written


def parse_proposals(reader: Reader) -> tuple[Proposal, ...]:
    """The body of an SA payload. At least one proposal, numbered from 1 without gaps (RFC 7296 §3.3.1)."""
    octets = reader.rest()
    return remembered(octets) if len(octets) <= REMEMBERED_OCTETS else _parsed(octets)


@lru_cache(REMEMBERED)
def remembered(octets: bytes) -> tuple[Proposal, ...]:
    """Those of IKE_SA_INIT have no SPI, and are the same octets for each of a peer's tunnels."""
    return _parsed(octets)


def _parsed(octets: bytes) -> tuple[Proposal, ...]:
    reader = Reader(octets)
    proposals: list[Proposal] = []
    more = True
    while more:
        if len(proposals) == LIMITS.proposals:
            raise IkeSyntaxError(f"more than {LIMITS.proposals} proposals")
        more, body = _substructure(reader, _MORE_PROPOSALS, "proposal")
        proposals.append(_parse_proposal(body))
        if sum(len(proposal.transforms) for proposal in proposals) > LIMITS.transforms:
            raise IkeSyntaxError(f"more than {LIMITS.transforms} transforms")
    reader.end("SA payload")
    _check_numbers(proposals)
    return tuple(proposals)


def _substructure(reader: Reader, more_code: int, what: str) -> tuple[bool, Reader]:
    code = reader.u8()
    if code not in (_LAST, more_code):
        raise IkeSyntaxError(f"{what}: last-substructure octet {code}")
    reader.u8()  # reserved, ignored
    length = reader.u16()
    if length < 8:
        raise IkeSyntaxError(f"{what} of {length} octets")
    return code == more_code, reader.sub(length - 4)


def _check_numbers(proposals: list[Proposal]) -> None:
    """A lone proposal may be a responder's choice and then has the number it had in the offer (RFC 7296 §3.3.1)."""
    numbers = [proposal.number for proposal in proposals]
    wanted = list(range(1, len(numbers) + 1))
    if numbers != wanted and (len(numbers) > 1 or numbers[0] == 0):
        raise IkeSyntaxError(f"proposal numbers {numbers}")


def _parse_proposal(reader: Reader) -> Proposal:
    number, protocol, spi_octets, count = reader.u8(), reader.u8(), reader.u8(), reader.u8()
    spi = reader.octets(spi_octets)
    transforms: list[Transform] = []
    room = LIMITS.attributes
    for left in reversed(range(count)):
        more, body = _substructure(reader, _MORE_TRANSFORMS, "transform")
        if more != (left > 0):
            raise IkeSyntaxError("transform count and last-substructure octets differ")
        transforms.append(_parse_transform(body, room))
        room -= len(transforms[-1].unknown)
    reader.end("proposal")
    return Proposal(number, protocol, spi, tuple(transforms))


def _parse_transform(reader: Reader, room: int) -> Transform:
    """`room`: attributes that may follow, besides Key Length. That is one non-zero type/value attribute (RFC 7296 §3.3.5): anything
    else of its type is an attribute that is not understood."""
    transform_type = reader.u8()
    reader.u8()  # reserved, ignored
    transform_id = reader.u16()
    key_length: int | None = None
    unknown: list[tuple[int, bytes]] = []
    while reader.remaining:
        attribute = reader.u16()
        value = reader.octets(2) if attribute & ATTRIBUTE_TV else reader.octets(reader.u16())
        if attribute == ATTRIBUTE_TV | KEY_LENGTH_ATTRIBUTE and key_length is None and value != _NO_LENGTH:
            key_length = int.from_bytes(value, "big")
            continue
        unknown.append((attribute, value))
        if len(unknown) > room:
            raise IkeSyntaxError(f"more than {LIMITS.attributes} attributes in a proposal")
    return Transform(transform_type, transform_id, key_length, tuple(unknown))


def build_proposals(writer: Writer, proposals: tuple[Proposal, ...]) -> None:
    """The body of an SA payload, proposals in the order given."""
    for index, proposal in enumerate(proposals):
        writer.u8(_MORE_PROPOSALS if index + 1 < len(proposals) else _LAST)
        writer.u8(0)
        length_at = writer.reserve_u16()
        writer.u8(proposal.number)
        writer.u8(proposal.protocol)
        writer.u8(len(proposal.spi))
        writer.u8(len(proposal.transforms))
        writer.octets(proposal.spi)
        for left, transform in zip(reversed(range(len(proposal.transforms))), proposal.transforms, strict=True):
            writer.octets(_transform_octets(transform, last=left == 0))
        writer.fill_u16(length_at, len(writer) - length_at + 2)


@lru_cache(_BUILT)
def _transform_octets(transform: Transform, *, last: bool) -> bytes:
    """Ours are few, and each is in many messages."""
    writer = Writer()
    writer.u8(_LAST if last else _MORE_TRANSFORMS)
    writer.u8(0)
    length_at = writer.reserve_u16()
    writer.u8(transform.type)
    writer.u8(0)
    writer.u16(transform.id)
    if transform.key_length is not None:
        writer.u16(ATTRIBUTE_TV | KEY_LENGTH_ATTRIBUTE)
        writer.u16(transform.key_length)
    for attribute, value in transform.unknown:
        writer.u16(attribute)
        if not attribute & ATTRIBUTE_TV:
            writer.u16(len(value))
        writer.octets(value)
    writer.fill_u16(length_at, len(writer) - length_at + 2)
    return writer.take()
