"""An SA's state as a value that goes to another data plane: what it has used of itself, and its keying material.

Plain values, so that msgspec writes and reads them. Each field says in its type (`util.leaves`) whether it may leave this host
one day, and then sealed alone, or never, since it means nothing elsewhere. In the clear they are for another process of this host.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import endpoint_of, set_endpoint
from ipsec_dp.dataplane.types import (
    DROP_NAMES,
    Counters,
    Df,
    Direction,
    Dscp,
    Encapsulation,
    Endpoint,
    Outer,
    OuterPath,
    SaFlag,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.leaves import Here, Sealed

if TYPE_CHECKING:
    from ipsec_dp.dataplane.types import SaParams

SA_MODEL: Final = 1
"""Of this version. Fields are added with a default; whatever an older reader would get wrong makes another number."""

_WORD_BITS = 64
_TIMES = ("first_use", "last_use", "period_at")


class EndpointValue(Struct, frozen=True, array_like=True):
    """`Endpoint`; the address as its octets."""

    address: bytes
    port: int
    scope: int

    @classmethod
    def of(cls, end: Endpoint) -> EndpointValue:
        return cls(end.address.packed, end.port, end.scope)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(ipaddress.ip_address(self.address), self.port, self.scope)


class PathValue(Struct, frozen=True, array_like=True):
    """`OuterPath` but for its link, which is a number of the data plane that it was in."""

    local: EndpointValue
    remote: EndpointValue
    encapsulation: int
    df: int
    dscp: int
    dscp_value: int
    hop_limit: int
    outer: int

    @classmethod
    def of(cls, path: OuterPath) -> PathValue:
        ends = EndpointValue.of(path.local), EndpointValue.of(path.remote)
        choices = int(path.encapsulation), int(path.df), int(path.dscp), path.dscp_value, path.hop_limit, int(path.outer)
        return cls(*ends, *choices)

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """Ours and the peer's."""
        return self.local.endpoint, self.remote.endpoint

    def over(self, link: int) -> OuterPath:
        """The same path over a link of another data plane."""
        local, remote = self.ends
        choices = Dscp(self.dscp), self.dscp_value, self.hop_limit, Outer(self.outer)
        return OuterPath(local, remote, Encapsulation(self.encapsulation), link, Df(self.df), *choices)


class ExportedSa(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One SA. `exact`: its source is retired, and this is after its last packet; else the source goes on up to `sequence`, behind
    which an import begins. Whoever has it wipes `keymat`.

    Outbound `sequence` is the last number used, inbound the highest received: `window` packets of it are in `words`, little-endian
    words of 64, the newest first (struct dp_sa_state); a window of 0: all numbers up to it count as received. Times are nanoseconds
    of this host's clock, which goes on while the host is suspended; 0: never.
    """

    model: Sealed[int] = SA_MODEL
    exact: Sealed[bool]
    direction: Sealed[int]
    spi: Sealed[int]
    suite: Sealed[str]
    keymat: Sealed[bytearray]
    sequence: Sealed[int]
    bound: Sealed[int] = 0  # reserved or published; 0: none
    iv: Sealed[int] = 0
    window: Sealed[int] = 0
    words: Sealed[bytes] = b""
    packets: Sealed[int] = 0
    octets: Sealed[int] = 0
    asked: Sealed[int] = 0
    recent: Sealed[int] = 0
    period_sequence: Sealed[int] = 0
    first_use: Here[int] = 0
    last_use: Here[int] = 0
    period_at: Here[int] = 0
    segment: Here[int] = 0
    flags: Sealed[int] = 0
    goes_on: Sealed[bool] = False
    last_drop: Sealed[str | None] = None
    drops: Sealed[dict[str, int]] = field(default_factory=dict)
    peer: Sealed[EndpointValue | None] = None
    path: Sealed[PathValue | None] = None

    def __repr__(self) -> str:
        return f"<ExportedSa {Direction(self.direction).name.lower()} {spi_text(self.spi)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def wipe(self) -> None:
        """Overwrites the keying material with zeros."""
        self.keymat[:] = bytes(len(self.keymat))

    def is_of(self, params: SaParams) -> bool:
        """Whether it is the state of this very SA: its direction, SPI and suite, and its keying material; where `params` has none,
        outbound, the two ends of its path, since peers choose these SPIs."""
        if (self.direction, self.spi, self.suite) != (params.direction, params.spi, str(params.suite)):
            return False
        if params.keymat:
            return compare_digest(self.keymat, params.keymat)
        return self.path is None or params.path is None or self.path.ends == (params.path.local, params.path.remote)


class CarriedTraffic(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What SAs of a tunnel that are gone had carried; the SAs that are there carry their own."""

    packets_in: Sealed[int] = 0
    octets_in: Sealed[int] = 0
    packets_out: Sealed[int] = 0
    octets_out: Sealed[int] = 0
    asked_in: Sealed[int] = 0
    asked_out: Sealed[int] = 0
    last_in: Here[int] = 0
    last_out: Here[int] = 0
    goes_on_in: Sealed[int] = 0
    goes_on_out: Sealed[int] = 0
    drops: Sealed[dict[str, int]] = field(default_factory=dict)


class CarriedFlows(Struct, frozen=True, forbid_unknown_fields=True):
    """As `dp_flows_export` has them: which worker each flow is with that is under way, and the seed by which flows find theirs."""

    seed: Here[int]
    records: Here[bytes]


_TRAFFIC = tuple(name for name in CarriedTraffic.__struct_fields__ if name != "drops")


def _counted(array: Any) -> dict[str, int]:
    """Drops by reason, those that happened."""
    return {name: int(count) for name, count in zip(DROP_NAMES, array, strict=True) if count}


def set_drops(array: Any, drops: dict[str, int]) -> None:
    """Those whose reason is known here: names are never changed, but a newer program may have more."""
    for name, count in drops.items():
        if name in DROP_NAMES:
            array[DROP_NAMES.index(name)] = count


def endpoint_value(c: Any) -> EndpointValue | None:
    endpoint = endpoint_of(c)
    return None if endpoint is None else EndpointValue(endpoint.address.packed, endpoint.port, endpoint.scope)


def _path_value(c: Any) -> PathValue | None:
    local, remote = endpoint_value(c.local), endpoint_value(c.remote)
    if local is None or remote is None:
        return None
    return PathValue(local, remote, c.encapsulation, c.df, c.dscp, c.dscp_value, c.hop_limit, c.outer)


def exported_of(c: Any, keymat: bytearray, *, exact: bool, direction: Direction, spi: int, suite: str) -> ExportedSa:
    """A `struct dp_sa_state` as a value."""
    words = c.window // _WORD_BITS + 1 if c.window else 0
    return ExportedSa(
        exact=exact,
        direction=int(direction),
        spi=spi,
        suite=suite,
        keymat=keymat,
        sequence=c.sequence,
        bound=c.bound,
        iv=c.iv,
        window=c.window,
        words=struct.pack(f"<{words}Q", *c.words[0:words]),
        packets=c.packets,
        octets=c.octets,
        asked=c.asked,
        recent=c.recent,
        period_sequence=c.period_sequence,
        first_use=c.first_use,
        last_use=c.last_use,
        period_at=c.period_at,
        segment=c.segment,
        flags=c.flags,
        goes_on=bool(c.goes_on),
        last_drop=DROP_NAMES[c.last_drop] if c.last_drop else None,
        drops=_counted(c.drops),
        peer=endpoint_value(c.peer) if direction is Direction.INBOUND else None,
        path=_path_value(c.path) if direction is Direction.OUTBOUND else None,
    )


def state_of(sa: ExportedSa, clock: int) -> Any:
    """The inverse; `clock`: nanoseconds that this host's clock is ahead of the source's. Raises DataPlaneError (EINVAL)."""
    words = sa.window // _WORD_BITS + 1 if sa.window else 0
    if sa.model > SA_MODEL or len(sa.words) != 8 * words or words > lib.DP_WINDOW_WORDS:
        raise DataPlaneError(errno.EINVAL, f"the state of {sa!r} cannot be read here")
    c = ffi.new("struct dp_sa_state *")
    for name in ("sequence", "bound", "iv", "window", "packets", "octets", "asked", "recent", "period_sequence", "segment"):
        setattr(c, name, getattr(sa, name))
    for name in _TIMES:
        setattr(c, name, max(getattr(sa, name) + clock, 1) if getattr(sa, name) else 0)
    c.words[0:words] = struct.unpack(f"<{words}Q", sa.words)
    c.flags, c.goes_on = sa.flags & sum(SaFlag), sa.goes_on
    c.last_drop = DROP_NAMES.index(sa.last_drop) if sa.last_drop in DROP_NAMES else 0
    set_drops(c.drops, sa.drops)
    if sa.peer is not None:
        set_endpoint(c.peer, sa.peer.endpoint)
    return c


def traffic_of(c: Any, drops: Any) -> CarriedTraffic:
    """A `struct dp_tunnel_traffic` as a value."""
    return CarriedTraffic(**{name: getattr(c, name) for name in _TRAFFIC}, drops=_counted(drops))


def set_traffic(c: Any, drops: Any, traffic: CarriedTraffic) -> None:
    """The inverse."""
    for name in _TRAFFIC:
        setattr(c, name, getattr(traffic, name))
    set_drops(drops, traffic.drops)


def set_counters(c: Any, counters: Counters) -> None:
    """A `struct dp_counters` of what was read elsewhere."""
    for name in Counters.__slots__:
        if name != "drops":
            setattr(c, name, getattr(counters, name))
    set_drops(c.drops, counters.drops)
