"""What an ISAKMP SA looks like from outside."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike.interface import ChildStatus, IkeStatus
from ipsec_dp.ike.suites import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v1 import silence
from ipsec_dp.ike.v1.states import IpsecSaState

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.sa import IpsecSa


def status(context: IsakmpContext, now: float, *, listed: bool = True) -> IkeStatus:
    """With the IPsec SAs that carry traffic, or not `listed`, which costs less."""
    peering, sa = context.peering, context.sa
    carrying = [] if peering is None else [one for one in peering.sas.values() if one.sending]
    renews = peering is not None and (peering.calling or any(one.asked for one in carrying))
    began = sa.started if sa.established_at == inf else sa.established_at
    return IkeStatus(
        "negotiating" if not context.established else "rekeying" if renews else "up",
        sa.cookie_i,
        sa.cookie_r,
        "initiator" if sa.initiator else "responder",
        "" if sa.suite is None else str(sa.suite),
        context.path,
        context.nat.sides,
        "" if context.proven.identities is None else str(context.proven.identities[1]),
        now - began,
        _remaining(context.deadlines.soft, now),
        tuple(_child(one, now) for one in carrying) if listed else (),
        () if peering is None else peering.wanted.lacking(),
        context.udp,
        context.udp and context.peer.encapsulation == "udp",
        silence=silence.text(context, now),
        heard=context.liveliness.heard,
        version=1,
        vendors=context.abilities.vendors,
        unknown_vendors=context.abilities.unknown_vendors,
        local_id="" if context.proven.identities is None else str(context.proven.identities[0]),
        certificates=context.proven.certificates,
        fragmentation=context.abilities.fragmentation,
        encapsulation_why=context.nat.why(context.peer.encapsulation),
        carries=bool(carrying),
    )


def _child(sa: IpsecSa, now: float) -> ChildStatus:
    suite = suite_of(sa.suite)
    pairs = selector_pairs((sa.pair,))
    rekey_in = _remaining(sa.soft, now)
    return ChildStatus(sa.number, sa.spi_in, sa.spi_out, suite.keyword, suite.esn, pairs, now - sa.created, rekey_in)


def rekey_in(peering: Peering, number: int, now: float) -> float | None:
    """Seconds until an IPsec SA that carries traffic is renewed; None: it carries none."""
    sa = peering.sas.get(number)
    return None if sa is None or sa.state is not IpsecSaState.UP else _remaining(sa.soft, now)


def _remaining(at: float, now: float) -> float:
    return 0.0 if at == inf else max(at - now, 0.0)
