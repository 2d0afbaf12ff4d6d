"""Small values without a key, of which there are many."""

from __future__ import annotations

from ipsec_dp.ike.carried.part import Value


class EndValue(Value, frozen=True, array_like=True):
    """`actions.Endpoint`; the address as its octets."""

    address: bytes
    port: int
    scope: int


class PathValue(Value, frozen=True, array_like=True):
    """`actions.Path`."""

    local: EndValue
    remote: EndValue
    natt: bool


class SelectorValue(Value, frozen=True, array_like=True):
    """`traffic_selectors.TrafficSelector`; first and last address as their octets."""

    start: bytes
    end: bytes
    protocol: int
    start_port: int
    end_port: int


class PairValue(Value, frozen=True, array_like=True):
    """`traffic_selectors.ProxyId`."""

    local: SelectorValue
    remote: SelectorValue


class TransformValue(Value, frozen=True, array_like=True):
    """`transforms.Transform` of ours."""

    type: int
    id: int
    key_length: int | None


class ProposalValue(Value, frozen=True, array_like=True):
    """`proposal.Proposal` of ours, or what a peer chose of it."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[TransformValue, ...]


class SuiteValue(Value, frozen=True, array_like=True):
    """Keywords of an IKE or ESP suite; empty: it has none of that kind."""

    encryption: str
    integrity: str
    prf: str
    group: str
    additional: tuple[str, ...]
    esn: bool


class NatValue(Value, frozen=True, array_like=True):
    """`nat.Nat`."""

    supported: bool
    local: bool
    remote: bool
    forced_here: bool
    forced_there: bool


class LengthValue(Value, frozen=True, array_like=True):
    """What `lengths.Lengths` knows of an address: octets of IP datagram, and until when."""

    address: bytes
    octets: float
    until: float


class IdentityValue(Value, frozen=True, array_like=True):
    type: int
    data: bytes


class WithstoodValue(Value, frozen=True, array_like=True):
    """`downgrades.Withstood`."""

    tunnel: str
    ours: IdentityValue
    theirs: IdentityValue
    ever: bool


class LimitsValue(Value, frozen=True, array_like=True):
    """`actions.ChildLimits`."""

    soft_octets: int
    hard_octets: int
    soft_packets: int
    hard_packets: int
