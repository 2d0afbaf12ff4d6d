"""How a tunnel is, in one word and in a sentence: of what was asked for, what is there, what lacks, and why.

IKE SA     CHILD_SAs   lacks                  state
up         some        nothing                up, or rekeying
up         some        something              partial
up         none        something that failed  failed
up         none        something else         negotiating
up         none        nothing                failed where the last one was refused, else waiting
under way                                     negotiating
none                                          as the intent says: down, waiting, negotiating, failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike import wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.interface import IkeStatus
    from ipsec_dp.ike.wanted import Lack
    from ipsec_dp.keying.initiation import Intent, State

UP = frozenset({"up", "rekeying"})  # states of an IKE SA


class TunnelState(NamedTuple):
    """`error`: what is wrong now, or went wrong last, with what to do about it."""

    state: State
    text: str
    error: str | None


def has_ike_sa(sas: Iterable[IkeStatus]) -> bool:
    """Whether one of these is up or under way."""
    return any(sa.state != "closing" for sa in sas)


def tunnel_state(sas: Sequence[IkeStatus], intent: Intent, now: float) -> TunnelState:
    """`sas`: the IKE SAs of the tunnel, oldest first."""
    up = [sa for sa in sas if sa.state in UP]
    if not up:
        under_way = any(sa.state == "negotiating" for sa in sas)
        state: State = "negotiating" if under_way else intent.state
        return TunnelState(state, state if under_way else intent.text, _silence(sas) or intent.last_error)
    lacking = _lacking(up)
    said, failed = wanted.text(lacking, now) if lacking else "", [lack for lack in lacking if lack.failed]
    error = _silence(sas) or (f"{failed[0].proxy_id}: {failed[0].why}" if failed else intent.last_error)
    if any(sa.carries for sa in up):
        if lacking:
            return TunnelState("partial", f"lacks {said}", error)
        state = "rekeying" if up[-1].state == "rekeying" else "up"
        return TunnelState(state, state, error)
    if failed:
        return TunnelState("failed", f"the IKE SA is up, without a CHILD_SA: {said}", error)
    if lacking:
        return TunnelState("negotiating", f"the IKE SA is up; asked for {said}", error)
    if intent.refusal is not None:
        return TunnelState("failed", "the IKE SA is up, without a CHILD_SA: the last one was refused", intent.refusal)
    return TunnelState("waiting", f"the IKE SA is up, without a CHILD_SA; {intent.waits_for}", error)


def _silence(sas: Sequence[IkeStatus]) -> str | None:
    """What the newest IKE SA waits for in vain: nothing else is known to be wrong as long as that is so."""
    return next((sa.silence for sa in reversed(sas) if sa.silence is not None), None)


def _lacking(up: Sequence[IkeStatus]) -> list[Lack]:
    """What none of these has: one that is about to take the place of another need not have everything yet."""
    if not up[-1].lacking:
        return []
    everywhere = set.intersection(*({lack.proxy_id for lack in sa.lacking} for sa in up))
    return [lack for lack in up[-1].lacking if lack.proxy_id in everywhere]
