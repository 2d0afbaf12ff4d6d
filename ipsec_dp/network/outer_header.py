"""What a tunnel's configuration says of its outer headers, in the words of the data plane."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import Df, Dscp, Outer, OuterPath

if TYPE_CHECKING:
    from ipsec_dp.config.packets import Packets

DFS = {"copy": Df.COPY, "set": Df.SET, "clear": Df.CLEAR}


def with_outer_header(path: OuterPath, packets: Packets) -> OuterPath:
    """The same path with DF, DSCP, ECN, hop limit and flow label as configured."""
    outer = Outer(0)
    if packets.hop_limit == "copy":
        outer |= Outer.HOP_LIMIT_COPY
    if packets.flow_label == "flow":
        outer |= Outer.FLOW_LABEL
    if packets.ecn == "compatibility":
        outer |= Outer.NO_ECN
    return replace(
        path,
        df=DFS[packets.df],
        dscp=Dscp.COPY if packets.dscp == "copy" else Dscp.VALUE,
        dscp_value=0 if packets.dscp == "copy" else packets.dscp,
        hop_limit=0 if packets.hop_limit == "copy" else packets.hop_limit,
        outer=outer,
    )
