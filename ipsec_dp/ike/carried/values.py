"""Between the core's values and those of the model. What cannot be one of the core is a ValueError, LookupError or TypeError."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeVar, get_args

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import ChildLimits, Endpoint, Path
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.nat import Nat
from ipsec_dp.ike.post_quantum import Withstands
from ipsec_dp.ike.proposal import Proposal
from ipsec_dp.ike.suites import EspSuite, IkeSuite
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ipsec.transforms import AdditionalKeyExchange, Encryption, Group, Integrity, Prf, Transform, by_keyword

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.v2.lengths import Lengths
    from ipsec_dp.ipsec.addresses import Address

A = TypeVar("A", Encryption, Prf, Integrity, Group, AdditionalKeyExchange)
_SUITES: Final = 64  # of those that were met last, each made once
_SELECTORS: Final = 64  # an IKE SA has the same few in a dozen places
_VERSIONS: Final = {4: 4, 16: 6}  # of IP, by the octets of an address


def spi_of(value: int) -> int:
    """Of an ESP SA (RFC 4303 §2.1)."""
    if not 0 < value < 1 << 32:
        raise ValueError("an SPI that is none")
    return value


# ---- addresses and selectors -----------------------------------------------------------------------------------------------------


def end_value(end: Endpoint) -> m.EndValue:
    return m.EndValue(end.address.packed, end.port, end.scope)


def endpoint(value: m.EndValue) -> Endpoint:
    if not (0 <= value.port <= 0xFFFF and 0 <= value.scope < 1 << 32):
        raise ValueError("a port or a scope that is none")
    return Endpoint(ip_address(value.address), value.port, value.scope)


def path_value(path: Path) -> m.PathValue:
    return m.PathValue(end_value(path.local), end_value(path.remote), path.natt)


def path_of(value: m.PathValue) -> Path:
    local, remote = endpoint(value.local), endpoint(value.remote)
    if local.address.version != remote.address.version:
        raise ValueError("a path between two IP versions")
    return Path(local, remote, value.natt)


def nat_value(nat: Nat) -> m.NatValue:
    return m.NatValue(nat.supported, nat.local, nat.remote, nat.forced_here, nat.forced_there)


def nat_of(value: m.NatValue) -> Nat:
    return Nat(value.supported, value.local, value.remote, value.forced_here, value.forced_there)


def length_values(lengths: Lengths) -> list[m.LengthValue]:
    return [m.LengthValue(address.packed, octets, until) for address, octets, until in lengths.known]


def lengths_of(values: Iterable[m.LengthValue]) -> list[tuple[Address, float, float]]:
    return [(ip_address(one.address), one.octets, one.until) for one in values]


def _selector_value(one: TrafficSelector) -> m.SelectorValue:
    octets = 4 if one.version == 4 else 16
    start, end = one.start.to_bytes(octets, "big"), one.end.to_bytes(octets, "big")
    return m.SelectorValue(start, end, one.protocol, one.start_port, one.end_port)


@lru_cache(_SELECTORS)
def _selector(value: m.SelectorValue) -> TrafficSelector:
    version, start, end = _VERSIONS.get(len(value.start)), int.from_bytes(value.start), int.from_bytes(value.end)
    if version is None or len(value.start) != len(value.end) or start > end:
        raise ValueError("a selector whose end is before its start")
    if not (0 <= value.protocol <= 0xFF and 0 <= value.start_port <= 0xFFFF and 0 <= value.end_port <= 0xFFFF):
        raise ValueError("a selector of no protocol or no port")
    return TrafficSelector(version, start, end, value.protocol, value.start_port, value.end_port)


def selector_values(selectors: Iterable[TrafficSelector]) -> tuple[m.SelectorValue, ...]:
    return tuple(map(_selector_value, selectors))


def selectors_of(values: Iterable[m.SelectorValue]) -> tuple[TrafficSelector, ...]:
    return tuple(map(_selector, values))


def pair_value(pair: ProxyId) -> m.PairValue:
    return m.PairValue(_selector_value(pair.local), _selector_value(pair.remote))


@lru_cache(_SELECTORS)
def pair_of(value: m.PairValue) -> ProxyId:
    local, remote = _selector(value.local), _selector(value.remote)
    if local.version != remote.version:
        raise ValueError("a pair of two IP versions")
    return ProxyId(local, remote)


def pair_values(pairs: Iterable[ProxyId]) -> tuple[m.PairValue, ...]:
    return tuple(map(pair_value, pairs))


def pairs_of(values: Iterable[m.PairValue]) -> tuple[ProxyId, ...]:
    return tuple(map(pair_of, values))


# ---- identities ------------------------------------------------------------------------------------------------------------------


def identity_values(identities: tuple[Identity, Identity]) -> tuple[m.IdentityValue, m.IdentityValue]:
    ours, theirs = identities
    return m.IdentityValue(ours.type, ours.data), m.IdentityValue(theirs.type, theirs.data)


def identities_of(values: tuple[m.IdentityValue, m.IdentityValue]) -> tuple[Identity, Identity]:
    ours, theirs = values
    return Identity.from_wire(ours.type, ours.data), Identity.from_wire(theirs.type, theirs.data)


# ---- algorithms ------------------------------------------------------------------------------------------------------------------


def _algorithm(keyword: str, kind: type[A]) -> A:
    found = by_keyword(keyword)
    if not isinstance(found, kind):
        raise ValueError(f"{keyword[:32]!r} is no {kind.__name__} that is known here")
    return found


def group_of(keyword: str) -> Group:
    return _algorithm(keyword, Group)


def groups_of(keywords: Iterable[str]) -> list[Group]:
    return [group_of(keyword) for keyword in keywords]


def suite_value(suite: IkeSuite | EspSuite) -> m.SuiteValue:
    prf = suite.prf.keyword if isinstance(suite, IkeSuite) else ""
    return m.SuiteValue(
        suite.encryption.keyword,
        "" if suite.integrity is None else suite.integrity.keyword,
        prf,
        "" if suite.group is None else suite.group.keyword,
        tuple(one.keyword for one in suite.additional),
        isinstance(suite, EspSuite) and suite.esn,
    )


def _additional(value: m.SuiteValue) -> tuple[AdditionalKeyExchange, ...]:
    return tuple(_algorithm(one, AdditionalKeyExchange) for one in value.additional)


def _integrity(value: m.SuiteValue) -> Integrity | None:
    return _algorithm(value.integrity, Integrity) if value.integrity else None


@lru_cache(_SUITES)
def ike_suite_of(value: m.SuiteValue) -> IkeSuite:
    encryption, prf = _algorithm(value.encryption, Encryption), _algorithm(value.prf, Prf)
    return IkeSuite(encryption, prf, _integrity(value), group_of(value.group), _additional(value))


@lru_cache(_SUITES)
def esp_suite_of(value: m.SuiteValue) -> EspSuite:
    encryption, integrity = _algorithm(value.encryption, Encryption), _integrity(value)
    if encryption.is_aead == (integrity is not None):
        raise ValueError("an ESP suite that protects nothing, or twice")
    group = group_of(value.group) if value.group else None
    return EspSuite(encryption, integrity, group, value.esn, _additional(value))


def withstands_of(text: str) -> Withstands:
    if text not in get_args(Withstands):
        raise ValueError("a protection that nobody knows")
    return text  # type: ignore[return-value]


def proposal_value(one: Proposal) -> m.ProposalValue:
    transforms = tuple(m.TransformValue(each.type, each.id, each.key_length) for each in one.transforms)
    return m.ProposalValue(one.number, one.protocol, one.spi, transforms)


def proposal_of(value: m.ProposalValue) -> Proposal:
    transforms = tuple(Transform(each.type, each.id, each.key_length) for each in value.transforms)
    return Proposal(value.number, value.protocol, value.spi, transforms)


def proposal_values(proposals: Iterable[Proposal]) -> tuple[m.ProposalValue, ...]:
    return tuple(map(proposal_value, proposals))


def proposals_of(values: Iterable[m.ProposalValue]) -> tuple[Proposal, ...]:
    return tuple(map(proposal_of, values))


def limits_value(limits: ChildLimits) -> m.LimitsValue:
    return m.LimitsValue(limits.soft_octets, limits.hard_octets, limits.soft_packets, limits.hard_packets)


def limits_of(value: m.LimitsValue) -> ChildLimits:
    return ChildLimits(value.soft_octets, value.hard_octets, value.soft_packets, value.hard_packets)


# ---- key exchanges ---------------------------------------------------------------------------------------------------------------


def half_part(key: dh.KeyExchange | None) -> m.HalfPart | None:
    return None if key is None else m.HalfPart(group=key.group.keyword, private=key.private_octets())


def half_of(part: m.HalfPart | None) -> dh.KeyExchange | None:
    return None if part is None else dh.again(group_of(part.group), part.private)
