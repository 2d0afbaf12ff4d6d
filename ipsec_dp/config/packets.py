"""How a tunnel treats packets for their size, and what it writes into outer headers: some of the keys of [[tunnel]]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Place
    from ipsec_dp.ipsec.selectors import SelectorPair

MTU_MIN, MTU_MAX = 576, 65535
IPV6_MTU_MIN = 1280  # RFC 8200 §5
MSS_MIN = 88  # octets: what Linux takes for the least that a peer can mean
DSCP_MAX = 63
HOP_LIMIT_MAX = 255

Fragment = Literal["before", "after"]
OuterDf = Literal["copy", "set", "clear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """`mtu` 0: as the way to the peer allows. `mss_clamp` and `dscp`: a number, or the word. `hop_limit` 0: the host's own."""

    mtu: int = 0
    fragment: Fragment = "before"
    df: OuterDf = "copy"
    mss_clamp: Literal["off", "auto"] | int = "off"
    dscp: Literal["copy"] | int = "copy"
    dscp_in: Literal["keep", "copy"] = "keep"
    ecn: Literal["normal", "compatibility"] = "normal"
    hop_limit: Literal["copy"] | int = 0
    flow_label: Literal["zero", "flow"] = "zero"


DEFAULT_PACKETS = Packets()


def resolve_packets(table: tables.Tunnel, selectors: Sequence[SelectorPair], place: Place) -> Packets:
    """`selectors` are the tunnel's. What is wrong is reported, and its default taken."""
    _check_mtu(table.mtu, selectors, place)
    if table.fragment == "after" and table.df == "set":
        place.error(
            "fragment", '"after" lets outer packets be fragmented, and df = "set" forbids it', 'write df = "copy" or "clear"'
        )
    words: tuple[tuple[str, Mapping[str, int], str | int, int, int, str], ...] = (
        ("mss_clamp", {"off": 0, "auto": 0}, table.mss_clamp, MSS_MIN, MTU_MAX, "auto"),
        ("dscp", {"copy": 0}, table.dscp, 0, DSCP_MAX, "copy"),
        ("hop_limit", {"host": 0, "copy": 0}, table.hop_limit, 1, HOP_LIMIT_MAX, "host"),
    )
    for key, known, value, low, high, word in words:
        if (isinstance(value, str) and value not in known) or (isinstance(value, int) and not low <= value <= high):
            place.error(key, f"{value} cannot be", f'write "{word}" or a number from {low} to {high}')
    return Packets(
        mtu=table.mtu,
        fragment=table.fragment,
        df=table.df,
        mss_clamp=table.mss_clamp if isinstance(table.mss_clamp, int) else "auto" if table.mss_clamp == "auto" else "off",
        dscp=table.dscp if isinstance(table.dscp, int) else "copy",
        dscp_in=table.dscp_in,
        ecn=table.ecn,
        hop_limit=table.hop_limit if isinstance(table.hop_limit, int) else "copy" if table.hop_limit == "copy" else 0,
        flow_label=table.flow_label,
    )


def _check_mtu(mtu: int, selectors: Sequence[SelectorPair], place: Place) -> None:
    if mtu and not MTU_MIN <= mtu <= MTU_MAX:
        place.error("mtu", f"{mtu} octets cannot be", f"write a number from {MTU_MIN} to {MTU_MAX}, or 0: as the path allows")
    elif 0 < mtu < IPV6_MTU_MIN and (not selectors or any(selector.version == 6 for selector in selectors)):
        place.error(
            "mtu",
            f"{mtu} octets are too few for the IPv6 that the tunnel carries (RFC 8200 §5)",
            f"write {IPV6_MTU_MIN} or more, or proxy IDs of IPv4 alone",
        )
