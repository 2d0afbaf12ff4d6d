"""The SA payload of ISAKMP with its proposals, transforms and attributes (RFC 2408 §3.4 to §3.6, RFC 2407 §4.6.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Self

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.payloads import IsakmpPayload
from ipsec_dp.ike.v1.wire import BASIC, DOI_IPSEC, SITUATION_IDENTITY_ONLY, PayloadKind

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_SPI: Final = 16  # octets
_NUMBER: Final = 8  # octets of the largest number that an attribute may be


@dataclass(frozen=True, slots=True)
class SaAttribute:
    """One attribute of a transform. `basic`: its two octets stand in the place of a length."""

    type: int
    octets: bytes
    basic: bool

    @classmethod
    def of(cls, attribute: int, value: int) -> Self:
        """A number in its shortest form, of four octets where two are too few."""
        if value > 0xFFFF:
            return cls(attribute, value.to_bytes(max(4, (value.bit_length() + 7) // 8), "big"), basic=False)
        return cls(attribute, value.to_bytes(2, "big"), basic=True)

    @property
    def number(self) -> int | None:
        """Its value; None where that is no number of at most eight octets."""
        return int.from_bytes(self.octets, "big") if 0 < len(self.octets) <= _NUMBER else None


@dataclass(frozen=True, slots=True)
class SaTransform:
    """One transform as it stands on the wire: whoever chooses it sends it back as it came (RFC 2408 §4.2)."""

    number: int
    id: int
    attributes: tuple[SaAttribute, ...]

    def numbers(self) -> dict[int, tuple[int | None, ...]]:
        """The values of each type of attribute, in their order."""
        found: dict[int, tuple[int | None, ...]] = {}
        for one in self.attributes:
            found[one.type] = (*found.get(one.type, ()), one.number)
        return found


@dataclass(frozen=True, slots=True)
class SaProposal:
    """One proposal; several with one `number` belong together, as ESP and AH would."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[SaTransform, ...]


@dataclass(frozen=True, slots=True)
class SaPayload(IsakmpPayload):
    """SA, situation "identity only". `raw`: the body as it came, which HASH_I and HASH_R cover."""

    type: ClassVar = PayloadKind.SA
    proposals: tuple[SaProposal, ...]
    raw: bytes = field(default=b"", compare=False, repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        raw = reader.rest()
        body = Reader(raw)
        doi, situation = body.u32(), body.u32()
        if doi != DOI_IPSEC or situation != SITUATION_IDENTITY_ONLY:
            raise IkeSyntaxError(f"SA of DOI {doi}, situation {situation}")
        return cls(_parse_proposals(body), raw)

    def build(self, writer: Writer) -> None:
        writer.u32(DOI_IPSEC)
        writer.u32(SITUATION_IDENTITY_ONLY)
        _build_proposals(writer, self.proposals)

    def body(self) -> bytes:
        """SAi_b: the body without the generic header."""
        writer = Writer()
        self.build(writer)
        return self.raw or writer.take()


def _parse_proposals(reader: Reader) -> tuple[SaProposal, ...]:
    found: list[SaProposal] = []
    transforms = 0
    for body, _ in _chain(reader, PayloadKind.PROPOSAL, LIMITS.proposals):
        number, protocol, spi_octets, count = body.u8(), body.u8(), body.u8(), body.u8()
        if spi_octets > _MOST_SPI:
            raise IkeSyntaxError(f"SPI of {spi_octets} octets")
        spi = body.octets(spi_octets)
        transforms += count
        if transforms > LIMITS.transforms:
            raise IkeSyntaxError(f"more than {LIMITS.transforms} transforms")
        parsed = tuple(_parse_transform(each) for each, _ in _chain(body, PayloadKind.TRANSFORM, count))
        if len(parsed) != count:
            raise IkeSyntaxError(f"{len(parsed)} transforms where {count} are announced")
        found.append(SaProposal(number, protocol, spi, parsed))
    if not found:
        raise IkeSyntaxError("SA without a proposal")
    return tuple(found)


def _chain(reader: Reader, kind: PayloadKind, most: int) -> Iterable[tuple[Reader, int]]:
    """Each part of a list whose members say whether another follows."""
    count = 0
    following: int = kind
    while following == kind and reader.remaining:
        if count == most:
            raise IkeSyntaxError(f"more than {most} parts in a list of {kind.name}")
        following, reserved, length = reader.u8(), reader.u8(), reader.u16()
        if following not in (kind, PayloadKind.NONE) or reserved:
            raise IkeSyntaxError(f"{kind.name} followed by {following}")
        yield reader.sub(length - 4), count
        count += 1
    if following == kind and count:
        raise IkeSyntaxError(f"a {kind.name} is announced and lacks")
    reader.end(f"list of {kind.name}")


def _parse_transform(reader: Reader) -> SaTransform:
    number, transform = reader.u8(), reader.u8()
    reader.u16()
    return SaTransform(number, transform, parse_attributes(reader.rest()))


def parse_attributes(octets: bytes) -> tuple[SaAttribute, ...]:
    """All of them (§3.3)."""
    reader = Reader(octets)
    found: list[SaAttribute] = []
    while reader.remaining:
        if len(found) == LIMITS.attributes:
            raise IkeSyntaxError(f"more than {LIMITS.attributes} attributes")
        kind, value = reader.u16(), reader.u16()
        basic = bool(kind & BASIC)
        found.append(SaAttribute(kind & ~BASIC, value.to_bytes(2, "big") if basic else reader.octets(value), basic))
    return tuple(found)


def attribute_octets(one: SaAttribute) -> bytes:
    """One of them as it stands on the wire."""
    head = (one.type | (BASIC if one.basic else 0)).to_bytes(2, "big")
    return head + (b"" if one.basic else len(one.octets).to_bytes(2, "big")) + one.octets


def _build_proposals(writer: Writer, proposals: tuple[SaProposal, ...]) -> None:
    for place, proposal in enumerate(proposals, 1):
        at = _begin(writer, PayloadKind.PROPOSAL, last=place == len(proposals))
        for value in (proposal.number, proposal.protocol, len(proposal.spi), len(proposal.transforms)):
            writer.u8(value)
        writer.octets(proposal.spi)
        for order, transform in enumerate(proposal.transforms, 1):
            inner = _begin(writer, PayloadKind.TRANSFORM, last=order == len(proposal.transforms))
            _build_transform(writer, transform)
            writer.fill_u16(inner, len(writer) - inner + 2)
        writer.fill_u16(at, len(writer) - at + 2)


def _begin(writer: Writer, kind: PayloadKind, *, last: bool) -> int:
    writer.u8(PayloadKind.NONE if last else kind)
    writer.u8(0)
    return writer.reserve_u16()


def _build_transform(writer: Writer, transform: SaTransform) -> None:
    writer.u8(transform.number)
    writer.u8(transform.id)
    writer.u16(0)
    for one in transform.attributes:
        writer.octets(attribute_octets(one))
